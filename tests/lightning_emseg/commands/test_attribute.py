"""`emseg attribute`: from a checkpoint and a store to tables, pictures and fields."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import Image
from scipy.stats import sem

from data_modules.store import MosaicStore
from lightning_emseg.attribution.points import OUTCOMES
from lightning_emseg.attribution.study_store import FieldsStore
from tests.support import linear_network
from tests.support.linear_network import Files, groups, table, values
from tests.support.undrawn import undrawn

FEW = ["--points", "24", "--window", "32", "--windows", "6", "--method.steps", "3", "--method.baseline", "zero"]
PIXEL_NM2 = linear_network.NM[0] * linear_network.NM[1]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("attribute"))


@pytest.fixture(scope="module")
def study(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished, with exact fields; read only, please."""
    out = tmp_path_factory.mktemp("study") / "exact"
    files.attribute(out, *FEW, "--method.exact", "true", "--check", "4")
    return out


def test_the_table_follows_from_the_stored_fields(study: Path) -> None:
    areas: dict[tuple[str, float], list[float]] = {}
    for group in groups(study):
        fields = values(group, "fields")
        inside = group.attrs["pixels_inside"]
        assert isinstance(inside, int)
        assert not np.isnan(fields).any()
        for field, code in zip(fields, values(group, "outcome").tolist(), strict=True):
            # The linear field never reaches into what is mirrored, as pixels of the mosaic alone are chosen.
            for k in (0.01, 0.05, 0.1):
                share = int((field / np.abs(field).max() > k).sum()) / inside
                areas.setdefault((OUTCOMES[int(code)], k), []).append(share * inside * PIXEL_NM2)
    summary = table(study / "summary.csv")
    assert {(row["outcome"], float(row["k"])) for row in summary if row["outcome"] != "all"} == areas.keys()
    for row in summary:
        if row["outcome"] != "all":
            expected = areas[row["outcome"], float(row["k"])]
            assert int(row["pixels"]) == len(expected)
            assert float(row["S_nm2"]) == pytest.approx(np.mean(expected))
            assert float(row["S_nm2_se"]) == pytest.approx(sem(expected))


def test_fields_are_the_closed_form_where_listed(study: Path, files: Files) -> None:
    rows = table(study / "points.csv")
    places = {(row["mosaic"], int(row["y_px"]), int(row["x_px"])) for row in rows}
    assert len(places) == len(rows) > 12
    seen = set()
    for group in groups(study):
        mosaic, origin = str(group.attrs["mosaic"]), np.array(group.attrs["window_origin_px"])
        whole = np.asarray(zarr.open_array(files.store / mosaic / "0", mode="r")[:]).astype(np.float64)
        side = [int(size) for size in np.array(group.attrs["window_px"])]
        window = whole[origin[0] : origin[0] + side[0], origin[1] : origin[1] + side[1]]
        window = np.pad(window, [(0, want - have) for want, have in zip(side, window.shape, strict=True)], "symmetric")
        arrays = [values(group, key).astype(int).tolist() for key in ("pixel", "position", "origin")]
        for field, pixel, position, corner in zip(values(group, "fields"), *arrays, strict=True):
            assert position == (origin + pixel).tolist()
            seen.add((mosaic, *position))
            expected = linear_network.field_of(window, np.zeros_like(window), (pixel[0], pixel[1]))
            box = tuple(slice(at, at + size) for at, size in zip(corner, field.shape, strict=True))
            np.testing.assert_allclose(field, expected[box], atol=1e-5)
            assert np.abs(expected).sum() == pytest.approx(np.abs(expected[box]).sum())
    assert seen == places


def test_outcomes_are_of_the_checkpoints_threshold(study: Path, files: Files) -> None:
    samples = {sample.key: sample for sample in MosaicStore(files.store).samples("test")}
    logit = np.log(0.4 / 0.6)
    checked = 0
    for row in table(study / "points.csv"):
        at = (int(row["y_px"]), int(row["x_px"]))
        truth = zarr.open_array(samples[row["mosaic"]].label("membrane").path, mode="r")[at]
        if abs(float(row["output"]) - logit) > 0.05:
            said = float(row["output"]) > logit
            assert (
                row["outcome"]
                == {(1, True): "TP", (0, True): "FP", (1, False): "FN", (0, False): "TN"}[
                    (int(np.asarray(truth)), said)
                ]
            )
            checked += 1
    assert checked > 12


def test_a_study_leaves_tables_pictures_and_an_account(study: Path) -> None:
    record = json.loads((study / "summary.json").read_text())
    assert record["settings"]["threshold_source"] == "chosen by hand"
    assert record["settings"]["samples"]["test/b"]["pixel_size_nm"] == list(linear_network.NM)
    assert record["method"]["steps"] == 3
    assert {0.01, 0.05, 0.1} < {each["threshold"] for each in record["curve"]}
    for picture in ("curve.png", "panels.png"):
        assert min(Image.open(study / picture).size) > 300
    text = (study / "summary.txt").read_text()
    assert f"integrated gradients of {len(table(study / 'points.csv'))} pixels" in text
    assert "s a pixel" in text
    assert not list(study.glob(".*"))


def test_outcomes_with_too_few_pixels_are_told(files: Files, tmp_path: Path) -> None:
    few = ["--window", "16", "--samples", "[b]", "--method.steps", "2", "--method.baseline", "zero", "--check", "0"]
    for windows, advice in (("1", "; --windows null chooses from all"), ("null", "; there are no more")):
        out = tmp_path / windows
        with undrawn():
            files.attribute(out, *few, "--points", "200", "--windows", windows)
        found = [row["outcome"] for row in table(out / "points.csv")]
        short = ", ".join(f"{found.count(name)} of 50 {name}" for name in OUTCOMES if found.count(name) < 50)
        assert short
        (line,) = [line for line in (out / "summary.txt").read_text().splitlines() if line.startswith("fewer pixels")]
        assert line.endswith(advice)
        assert f": {short};" in line


def test_a_finished_study_is_left_as_it_is(
    study: Path, files: Files, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(FieldsStore, "write", fail)
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*")}
    files.attribute(study, *FEW, "--method.exact", "true", "--check", "4")
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*")} == before
    assert "was finished before" in capsys.readouterr().out


def test_other_settings_are_refused_by_name(study: Path, files: Files) -> None:
    message = files.refused(study, *[*FEW, "--method.exact", "true", "--check", "4", "--method.steps", "5"])
    assert "method.steps: 3 there, 5 here" in message
    assert "--overwrite" in message


def test_killed_studies_resume_to_the_same_tables(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with undrawn():
        files.attribute(tmp_path / "whole", *FEW)
    write = FieldsStore.write

    def interrupted(store: FieldsStore, name: str, *rest: Any) -> None:
        if name == "window-0002":
            raise KeyboardInterrupt
        write(store, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(FieldsStore, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            files.attribute(tmp_path / "cut", *FEW)
    assert not (tmp_path / "cut" / "summary.txt").exists()
    # Pictures show what tables and fields hold.
    with undrawn():
        files.attribute(tmp_path / "cut", *FEW)
    for name in ("points.csv", "summary.csv", "plan.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    for one, other in zip(groups(tmp_path / "cut"), groups(tmp_path / "whole"), strict=True):
        for key in one.array_keys():
            np.testing.assert_array_equal(values(one, key), values(other, key))
    assert json.loads((tmp_path / "cut" / "summary.json").read_text())["fast_against_exact"]["pixels"] == 8
    with undrawn():
        files.attribute(tmp_path / "cut", *FEW, "--points", "8", "--overwrite")
    assert len(table(tmp_path / "cut" / "points.csv")) == 8


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--samples", '["a","zz"]'], "no samples ['zz']; it has: a, b, c"),
        (["--points", "null"], "needs a number of --points"),
        (["--points", "0"], "--points 0 has to be at least 1"),
        (["--overlap", "1"], "--overlap 1.0 has to be at least 0 and below 1"),
        (["--window", "[32,32,32]"], "one side or 2 sides"),
        (["--device", "cuda:99"], "--device cuda:99 cannot be used here"),
        (["--label", "nuclei"], "has no label 'nuclei'"),
        (["--method", "Captum", "--method.method", "captum.attr.Nothing"], "no attribution method captum.attr.Nothing"),
        (["--split", "none"], "no split 'none'"),
    ],
)
def test_mistakes_are_one_message(files: Files, tmp_path: Path, more: list[str], message: str) -> None:
    assert message in files.refused(tmp_path / "o", *more)
    assert not (tmp_path / "o").exists()
