"""The guard finds every change of a record, names it, and looks past what differs from run to run."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
import zarr

from tests.bench import guard
from tests.bench.guard import Difference
from tests.support import ROOT

SETTINGS: dict[str, Any] = yaml.safe_load(guard.SETTINGS.read_text())


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A small record with a file of every kind."""
    folder = tmp_path / "record"
    (folder / "runs").mkdir(parents=True)
    scores = {"f1": 0.5, "auc": float("nan"), "versions": {"torch": "2.0"}, "seconds": 3.5, "split": "test"}
    (folder / "runs" / "scores.json").write_text(json.dumps(scores))
    (folder / "runs" / "metrics.csv").write_text("step,train/loss,speed/mpx\n0,0.75,12.5\n1,0.5,13.5\n")
    config = f"model:\n  class_path: lightning_emseg.modules.unet.UNet\nout: {folder}/a\n"
    (folder / "runs" / "config.yaml").write_text(config)
    (folder / "runs" / "environment.json").write_text(json.dumps({"cpu": 2}))
    torch.save({"state_dict": {"weight": torch.arange(6.0).reshape(2, 3)}}, folder / "runs" / "last.ckpt")
    (folder / "runs" / "report.txt").write_text("8 pixels\n0.81 s a pixel\n")
    (folder / "environment-of-record.json").write_text(json.dumps({"root": "/old", "commit": "a1", "torch": "2.0"}))
    (folder / "logs").mkdir()
    (folder / "logs" / "failed.json").write_text("{}")
    store = zarr.open_group(folder / "p.zarr", mode="w", attributes={"threshold": 0.5})
    store.create_array("0", data=np.arange(20, dtype=np.uint8).reshape(4, 5), chunks=(4, 5))
    return folder


def differences(old: Path, new: Path, **changes: Any) -> list[Difference]:
    same_machine = changes.pop("same_machine", True)
    settings = {**SETTINGS, **changes}
    before, after = (guard.read_record(folder, ROOT, settings) for folder in (old, new))
    return guard.compare(before, after, settings, same_machine)


@pytest.fixture
def later(record: Path, tmp_path: Path) -> Path:
    """A copy, whose own path is another."""
    shutil.copytree(record, tmp_path / "later")
    config = tmp_path / "later" / "runs" / "config.yaml"
    config.write_text(config.read_text().replace(str(record), str(tmp_path / "later")))
    return tmp_path / "later"


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_equal_records_have_no_difference(record: Path, later: Path) -> None:
    assert differences(record, later) == []


def test_a_changed_pixel_is_found_with_its_place(record: Path, later: Path) -> None:
    zarr.open_array(later / "p.zarr" / "0")[2, 3] = 14
    found = {each.key: each for each in differences(record, later)}
    assert found["pixels"].item == "p.zarr/0"
    assert found["pixels"].what == "1 of 20 values, by up to 1; first 13, now 14 at (2, 3)"
    assert set(found) == {"pixels", "bytes/c/0/0"}, "the stored bytes count too"


def test_a_changed_weight_is_found(record: Path, later: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    weight[1, 2] = weight[1, 2].nextafter(torch.tensor(9.0))
    torch.save({"state_dict": {"weight": weight}}, later / "runs" / "last.ckpt")
    (found,) = differences(record, later)
    assert (found.item, found.key) == ("runs/last.ckpt", "state_dict/weight")
    assert found.what.startswith("1 of 6 values, by up to 4.77e-07")


def test_missing_and_new_keys_are_found(record: Path, later: Path) -> None:
    replace(later / "runs" / "scores.json", '"f1"', '"f2"')
    assert differences(record, later) == [
        Difference("runs/scores.json", "f1", "missing"),
        Difference("runs/scores.json", "f2", "not in the record"),
    ]


def test_missing_and_new_files_are_found(record: Path, later: Path) -> None:
    (later / "runs" / "scores.json").rename(later / "runs" / "table.json")
    assert differences(record, later) == [
        Difference("runs/scores.json", "", "missing"),
        Difference("runs/table.json", "", "not in the record"),
    ]


def test_the_last_digit_of_a_number_counts(record: Path, later: Path) -> None:
    replace(later / "runs" / "metrics.csv", "0.75", "0.7500000000000001")
    assert differences(record, later) == [
        Difference("runs/metrics.csv", "1/train/loss", "0.75, now 0.7500000000000001")
    ]


@pytest.mark.parametrize(("loss", "allowed"), [("0.759", True), ("0.761", False)])
def test_tolerances_hold_on_another_machine(record: Path, later: Path, loss: str, allowed: bool) -> None:
    tolerances = [
        {"item": "*.csv", "key": "2/*", "relative": 1.0, "why": "later"},
        {"item": "*.csv", "relative": 0.0134, "why": "sums"},
    ]
    replace(later / "runs" / "metrics.csv", "0.75", loss)
    (found,) = differences(record, later, same_machine=False, tolerances=tolerances)
    assert bool(found.allowed) is allowed
    (found,) = differences(record, later, tolerances=tolerances)
    assert found.allowed == ""


def test_values_that_differ_between_runs_are_ignored(record: Path, later: Path) -> None:
    replace(later / "runs" / "scores.json", "2.0", "2.1")
    replace(later / "runs" / "scores.json", "3.5", "4.5")
    replace(later / "runs" / "metrics.csv", "12.5", "11")
    replace(later / "runs" / "report.txt", "0.81", "0.92")
    (later / "runs" / "environment.json").write_text("{}")
    assert differences(record, later) == []


def test_a_moved_class_is_equal_and_told(record: Path, later: Path) -> None:
    replace(later / "runs" / "config.yaml", "modules.unet.UNet", "networks.UNet")
    old, new = (guard.read_record(folder, ROOT, SETTINGS) for folder in (record, later))
    assert guard.compare(old, new, SETTINGS) == []
    moved = "moved: lightning_emseg.modules.unet.UNet, now lightning_emseg.networks.UNet"
    assert moved in guard.report(old, new, [])


def test_intended_differences_are_allowed_and_no_others(record: Path, later: Path) -> None:
    replace(later / "runs" / "scores.json", "0.5", "0.6")
    replace(later / "runs" / "scores.json", "test", "val")
    rules = [{"item": "*/scores.json", "key": "f1", "why": "ignored pixels"}]
    assert [(each.key, each.allowed) for each in differences(record, later, intended=rules)] == [
        ("f1", "intended: ignored pixels"),
        ("split", ""),
    ]


def test_renamed_keys_are_compared(record: Path, later: Path) -> None:
    replace(later / "runs" / "scores.json", '"f1"', '"dice"')
    assert differences(record, later, renamed={"^f1$": "dice"}) == []


def test_commands_go_on_after_a_failing_one(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nscripts = {toy = "toy_of_guard:main"}\n')
    lines = ["import sys", "def main():", "    print(sys.argv[1])", "    sys.exit(int(sys.argv[1]))"]
    (tmp_path / "toy_of_guard.py").write_text("\n".join(lines))
    (tmp_path / "logs").mkdir()
    statuses = guard.run_stage(
        tmp_path, tmp_path, {"name": "toys", "commands": ["toy 3", "toy x", "toy 0 > made/0.txt"]}
    )
    assert statuses["toy 3"] == "3"
    assert statuses["toy x"].startswith("ValueError")
    assert statuses["toy 0 > made/0.txt"] == "0"
    assert (tmp_path / "made" / "0.txt").read_text() == "0\n"
    assert (tmp_path / "logs" / "toys.txt").read_text().startswith("3\n")


def test_packages_of_another_tree_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"data_modules comes from .*, not from"):
        guard.check_origin(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (1, 1.0, ""),
        (True, 1, "True, now 1"),
        ("a", None, "a, now None"),
        (np.array(0.5), np.array(0.25), "0.5, now 0.25"),
        (2**64 - 1, 2**64 - 2, f"{2**64 - 1}, now {2**64 - 2}"),
        (np.array(["a"]), np.array(["b"]), "<U1 (1,), now <U1 (1,)"),
        (np.zeros(2, np.uint8), np.zeros(2, np.uint16), "uint8 (2,), now uint16 (2,)"),
        (np.array([1, np.nan]), np.array([1, np.nan]), ""),
        (np.array([1, np.nan]), np.array([1, 2.0]), "1 of 2 values, by up to nan; first nan, now 2.0 at (1,)"),
    ],
)
def test_deviations_of_single_values(old: Any, new: Any, what: str) -> None:
    assert guard.deviation(old, new)[0] == what


def test_check_says_what_differs_and_fails(record: Path, later: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.check(record, later, ROOT, SETTINGS) == 0
    assert "a1 against a1, by equality to the bit: no unexpected differences" in capsys.readouterr().out
    replace(later / "runs" / "scores.json", "0.5", "0.6")
    (later / "logs" / "failed.json").write_text('{"emseg score": "1"}')
    assert guard.check(record, later, ROOT, SETTINGS) == 1
    lines = capsys.readouterr().out.splitlines()
    (unchanged,) = (line for line in lines if line.startswith("| p.zarr | 2 |"))
    assert unchanged.endswith("| equal |")
    assert "| runs | 5 | 12 | 1 differ |" in lines
    assert "- runs/scores.json [f1]: 0.5, now 0.6" in lines
    assert "- logs [emseg score]: failed: 1" in lines
    assert lines[-1].endswith(": 2 unexpected differences")


def test_check_tells_another_torch(record: Path, later: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replace(later / "environment-of-record.json", "2.0", "2.1")
    assert guard.check(record, later, ROOT, SETTINGS) == 0
    assert "by tolerances, because of another torch: no unexpected differences" in capsys.readouterr().out


def test_every_experiment_is_resolved_or_compared_as_written(tmp_path: Path) -> None:
    settings = SETTINGS["experiments"]
    guard.copy_plain(ROOT / "experiments", tmp_path, settings["plain"])
    plain = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.yaml")}
    lines = guard.experiment_commands(ROOT, settings)
    resolved = {line.partition(" > resolved/")[2] for line in lines}
    shipped = {path.relative_to(ROOT / "experiments").as_posix() for path in (ROOT / "experiments").rglob("*.yaml")}
    assert plain | resolved == shipped
    assert plain & resolved == set()
    on_top = {line.count("--config") for line in lines if " > resolved/with/" in line}
    assert on_top == {2}
