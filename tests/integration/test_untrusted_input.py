"""What a config, a checkpoint or a store of somebody else can run: class paths of a config, and nothing else."""

import ast
import json
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from data_modules.errors import UserError
from lightning_emseg import cli, commands
from lightning_emseg.modules.restore import restore
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from lightning_emseg.results.leaderboard import read_leaderboard
from tests.support import ROOT, tiny


@pytest.fixture
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module ``payload`` that can be imported; the marker exists once anything of it has run."""
    marker = tmp_path / "ran"
    code = f"open({str(marker)!r}, 'w').close()\ndef run(*args, **kwargs): pass\nclass Codec: pass\n"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "payload.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    yield marker
    sys.modules.pop("payload", None)


def _experiment(folder: Path, store: Path) -> Path:
    content = {
        "model": {"class_path": "VanillaUNet", "init_args": {"base_channels": 4, "depth": 2}},
        "data": {
            "class_path": "Mosaic",
            "init_args": {"store": str(store), "patch_size": 64, "batch_size": 2, "patches_per_epoch": 4},
        },
        "trainer": {"accelerator": "cpu", "max_epochs": 1, "default_root_dir": str(folder / "run")},
    }
    (folder / "e.yaml").write_text(yaml.safe_dump(content))
    return folder / "e.yaml"


def _refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    written = capsys.readouterr().err
    assert caught.value.code not in (0, None)
    assert "Traceback" not in written
    return caught.value.code if isinstance(caught.value.code, str) else written


TAGS = (
    "!!python/object/apply:payload.run [1]",
    "!!python/object/new:payload.Codec {}",
    "!!python/object:payload.Codec {}",
    "!!python/name:payload.run",
    "!!python/module:payload",
)


@pytest.mark.parametrize("tag", TAGS)
def test_tags_in_a_config_are_not_run(
    tiny_store: Path, tmp_path: Path, payload: Path, capsys: pytest.CaptureFixture[str], tag: str
) -> None:
    config = _experiment(tmp_path, tiny_store)
    config.write_text(f"{config.read_text()}seed_everything: {tag}\n")
    message = _refused(capsys, "fit", "--config", str(config))
    assert "could not determine a constructor for the tag" in message
    assert "line 17, column 18" in message
    assert not payload.exists()


def test_tags_on_the_command_line_are_not_run(
    tiny_store: Path, tmp_path: Path, payload: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _refused(capsys, "fit", "--config", str(_experiment(tmp_path, tiny_store)), "--data.overlap", TAGS[0])
    assert not payload.exists()


def test_class_paths_in_a_config_are_run(
    tiny_store: Path, tmp_path: Path, payload: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # As documented: a config names classes, and to name one is to import its module, even if it does not fit.
    config = _experiment(tmp_path, tiny_store)
    _refused(capsys, "fit", "--config", str(config), "--model.loss", "payload.Codec")
    assert payload.exists()


class Evil:
    """Imports the payload when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (__import__, ("payload",))


def _checkpoint(folder: Path, store: Path, **changes: Any) -> Path:
    trainer = tiny.quiet_trainer(folder, max_epochs=0, limit_val_batches=0)
    trainer.fit(VanillaUNet(base_channels=4, depth=2), tiny.data_of(store))
    path = folder / "foreign.ckpt"
    trainer.save_checkpoint(path)
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"].update(changes.pop("hyper_parameters", {}))
    torch.save({**content, **changes}, path)
    return path


def test_pickles_in_a_checkpoint_are_not_run(
    tiny_store: Path, tmp_path: Path, payload: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _checkpoint(tmp_path, tiny_store, evil=Evil())
    config = ["--config", str(_experiment(tmp_path, tiny_store))]
    for verb in ("fit", "predict"):
        message = _refused(capsys, verb, *config, "--ckpt_path", str(path))
        assert "foreign.ckpt cannot be read as a checkpoint" in message
    assert "foreign.ckpt" in _refused(capsys, "fit", *config, "--model.start_from", str(path))
    with pytest.raises(UserError, match=r"foreign\.ckpt"):
        restore(path)
    assert not payload.exists()


def test_an_environment_variable_does_not_let_pickles_run(
    tiny_store: Path, tmp_path: Path, payload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _checkpoint(tmp_path, tiny_store, evil=Evil())
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(UserError, match=r"foreign\.ckpt"):
        restore(path)
    assert not payload.exists()


def test_functions_that_a_checkpoint_names_are_not_called(tiny_store: Path, tmp_path: Path, payload: Path) -> None:
    # Lightning's own `load_from_checkpoint` would call this one; nothing of the project uses it.
    restore(_checkpoint(tmp_path, tiny_store, hyper_parameters={"_instantiator": "payload.run"}))
    assert not payload.exists()
    named = _checkpoint(tmp_path, tiny_store, hyper_parameters={"_class_path": "os.mkdir", "path": str(payload)})
    with pytest.raises(UserError, match=r"os\.mkdir, which is no SegmentationMixin"):
        restore(named)
    assert not payload.exists()


def _rewritten(store: Path, change: str) -> None:
    """Let the image of the first training mosaic name a codec of ours."""
    path = store / "train" / "m0" / "0" / "zarr.json"
    content = json.loads(path.read_text())
    codec = {"name": change, "configuration": {"class_path": "payload.Codec", "id": change}}
    content["codecs"][0]["configuration"]["codecs"][-1] = codec
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("codec", ["pickle", "numcodecs.pickle", "payload.Codec"])
def test_codecs_of_a_store_run_no_code(
    tmp_path: Path, payload: Path, capsys: pytest.CaptureFixture[str], codec: str
) -> None:
    store = tmp_path / "s.zarr"
    tiny.make_store(store, {"train": ((80, 80),), "val": ((80, 80),)})
    _rewritten(store, codec)
    message = _refused(capsys, "fit", "--config", str(_experiment(tmp_path, store)))
    assert "train/m0" in message
    with pytest.raises(SystemExit):
        commands.main(["data", "verify", str(store)])
    assert not payload.exists()


def test_pickled_objects_of_old_stores_are_not_read(
    tmp_path: Path, payload: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "s.zarr"
    tiny.make_store(store, {"train": ((80, 80),), "val": ((80, 80),)})
    array = store / "train" / "m0" / "0"
    old = {
        **{"zarr_format": 2, "shape": [80, 80], "chunks": [80, 80], "dtype": "|O", "order": "C", "fill_value": None},
        **{"compressor": None, "filters": [{"id": "pickle", "protocol": 4}]},
    }
    (array / "zarr.json").unlink()
    (array / ".zarray").write_text(json.dumps(old))
    (array / "0.0").write_bytes(pickle.dumps(Evil()))
    _refused(capsys, "fit", "--config", str(_experiment(tmp_path, store)))
    assert not payload.exists()


def test_tags_in_other_files_are_not_run(tmp_path: Path, payload: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("model: !!python/object/apply:payload.run [1]\n")
    with suppress(SystemExit):
        commands.main(["report", str(tmp_path / "run")])
    (tmp_path / "rows.yaml").write_text("- experiment: !!python/object/apply:payload.run [1]\n  data: x\n")
    with pytest.raises(UserError, match=r"rows\.yaml cannot be read"):
        read_leaderboard(tmp_path / "rows.yaml")
    assert not payload.exists()


FORBIDDEN = ("eval", "exec", "__import__", "unsafe_load", "full_load", "load_from_checkpoint", "allow_pickle")


def test_project_calls_nothing_that_runs_input() -> None:
    found = []
    for path in (path for package in ("lightning_emseg", "data_modules") for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            is_method_of_network = name.endswith(".eval")
            bad = (
                (name.rpartition(".")[2] in FORBIDDEN and not is_method_of_network)
                or name in ("pickle.load", "pickle.loads", "yaml.load")
                or "allow_pickle" in options
                or (name == "torch.load" and options.get("weights_only") != "True")
            )
            found += [f"{path.relative_to(ROOT)}: {name}"] if bad else []
    assert found == []
    assert os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD") is None
