"""The folder of a run: earlier runs put aside, and the environment."""

import json
from pathlib import Path

from lightning_emseg.callbacks.run_folder import environment, git_state, make_room, put_aside
from tests.support import tiny


def test_earlier_runs_are_numbered(tmp_path: Path) -> None:
    assert put_aside(tmp_path, ("config.yaml",)) is None
    for number in (1, 2):
        (tmp_path / "config.yaml").write_text(str(number))
        (tmp_path / "notes.txt").write_text("stays")
        assert put_aside(tmp_path, ("config.yaml", "scores-*")) == tmp_path / "earlier" / str(number)
        assert (tmp_path / "earlier" / str(number) / "config.yaml").read_text() == str(number)
    assert (tmp_path / "notes.txt").is_file()


def test_resuming_keeps_checkpoints_and_trying_keeps_everything(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "metrics.csv").write_text("a")
    make_room(tiny.quiet_trainer(tmp_path, fast_dev_run=True), resumed=False)
    assert not (tmp_path / "earlier").exists()
    make_room(tiny.quiet_trainer(tmp_path), resumed=True)
    assert (tmp_path / "checkpoints").is_dir()
    assert (tmp_path / "earlier" / "1" / "metrics.csv").is_file()
    make_room(tiny.quiet_trainer(tmp_path), resumed=False)
    assert (tmp_path / "earlier" / "2" / "checkpoints").is_dir()


def test_environment_says_what_ran(tmp_path: Path) -> None:
    found = json.loads(json.dumps(environment()))
    assert {"started", "command", "seed", "git", "python", "cpu_count", "accelerators", "packages"} <= set(found)
    assert "pytorch-lightning" in {name.lower() for name in found["packages"]}
    assert git_state(tmp_path) is None
