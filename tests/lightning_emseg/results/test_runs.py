"""Run folders and studies, read as the framework writes them."""

from pathlib import Path

import pytest

from data_modules.errors import UserError
from lightning_emseg.results.page.document import make_page
from lightning_emseg.results.runs import read_area_study, read_runs
from tests.support.example_run import KEYS, write_run, write_study


def test_attribution_of_volumes_is_shown_in_cubic_nanometers(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    columns = "epoch,k,outcome,pixels,S_nm3,S_nm3_se,share,share_se,S_xy_nm2,S_xy_nm2_se,share_xy,share_xy_se"
    row = "1,0.01,TP,4,1280.0,64.0,0.25,0.01,320.0,16.0,0.5,0.01"
    (folder / "attribution" / "summary-fit.csv").write_text(f"{columns}\n{row}\n")
    (run,) = read_runs([folder])
    (area,) = run.attribution[0].areas
    size = area.sizes[0]
    assert (size.nm.mean, size.nm.se, size.extent.sign) == (1280, 64, "nm³")
    assert not run.notes
    html, _, _ = make_page([run], [], [], 5)
    assert "Sₖ (nm³), mean ± SE" in html
    assert "1,280" in html


def test_studies_are_read(tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    study = read_area_study(tmp_path / "study")
    assert [area.sizes[0].nm.mean for area in study.curve if area.outcome == "TP"] == pytest.approx(
        [1e5, 1e4, 1e3, 1e2]
    )
    assert len(study.panels) == 1


def test_complete_run_is_read_without_notes(tmp_path: Path) -> None:
    (run,) = read_runs([write_run(tmp_path / "run")])
    assert run.notes == []
    assert run.name == "run"
    assert (run.class_name("model"), run.class_name("data")) == ("LinkNet", "ISBI2012")
    assert list(run.scores) == ["test"]
    assert [errors.key for errors in run.errors["test"]] == list(KEYS)
    assert [study.name for study in run.attribution] == ["fit"]
    assert {area.epoch for area in run.attribution[0].latest} == {1.0}
    assert [path.stem for path in run.attribution[0].panels] == ["attribution-epoch-0001"]
    assert run.figures == []


FILES = ("config.yaml", "environment.json", "metrics.csv", "scores-test.json", "errors-test/index.json")
ALL_FILES = (*FILES, "attribution/fit.json", "attribution/summary-fit.csv")
DAMAGED = (b"{", b"\xff\xfe\x00", b"a,step\nx,y\n")
ODD = (b"", b"[1]", b'{"label": 1, "mosaics": [3]}', b'{"model": 3, "git": 4, "packages": 5, "command": {}}')


@pytest.mark.parametrize("content", [*DAMAGED, *ODD])
def test_any_file_content_still_gives_a_page(tmp_path: Path, content: bytes) -> None:
    folders = [write_run(tmp_path / name.replace("/", "-"), (0.8,)) for name in ALL_FILES]
    for folder, name in zip(folders, ALL_FILES, strict=True):
        (folder / name).write_bytes(content)
    assert make_page(read_runs(folders), [], [], 5)[0].startswith("<!doctype html>")


@pytest.mark.parametrize("name", [name for name in ALL_FILES if name.endswith("json")])
@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_files_are_left_out_with_notes(tmp_path: Path, name: str, content: bytes) -> None:
    folder = write_run(tmp_path / "run", (0.8,))
    (folder / name).write_bytes(content)
    (run,) = read_runs([folder])
    assert [name in note for note in run.notes] == [True]


def test_non_numeric_log_is_left_out_with_note(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "metrics.csv").write_text("step,loss\n1,much\n")
    (run,) = read_runs([folder])
    assert run.curves == ()
    assert "metrics.csv is damaged (ValueError: could not convert" in run.notes[0]


def test_missing_files_are_no_damage(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,step\n")
    (run,) = read_runs([tmp_path])
    assert run.notes == []
    assert (run.curves, run.scores, run.errors, run.config) == ((), {}, {}, {})


def test_equal_names_are_distinguished_by_parents(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / parent / "run") for parent in ("one", "two")]
    assert [run.name for run in read_runs(folders)] == ["one/run", "two/run"]


def test_wrong_folders_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty is no run folder: it holds none of"):
        read_runs([run, tmp_path / "empty"])
    with pytest.raises(UserError, match="nowhere is not a folder"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="was given twice"):
        read_runs([run, tmp_path / "run" / ".." / "run"])
