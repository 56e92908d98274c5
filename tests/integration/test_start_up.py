"""Commands import what they need and no more, which decides how long they take to start."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.store import LabelInfo, SampleWriter
from tests.support import ROOT

TORCH = ("torch", "torchmetrics", "pytorch_lightning", "lightning_fabric", "torchvision", "timm", "kornia", "captum")
OTHERS = ("segmentation_models_pytorch", "matplotlib", "sklearn", "skimage", "wandb", "tensorboard")
NO_NETWORK = (*TORCH, *OTHERS)
NO_ARRAYS = (*NO_NETWORK, "numpy", "scipy", "zarr", "tifffile")
LIGHT: dict[str, Sequence[str]] = {
    "lightning --help": NO_ARRAYS,
    "lightning --version": NO_ARRAYS,
    "emseg --help": NO_ARRAYS,
    "emseg --version": NO_ARRAYS,
    "emseg data --help": NO_ARRAYS,
    "emseg data convert --help": NO_ARRAYS,
    "emseg curate --help": NO_ARRAYS,
    "emseg score --help": NO_NETWORK,
    "emseg errors --help": NO_NETWORK,
    "emseg data synthesize --help": NO_NETWORK,
    "emseg data inspect --help": NO_NETWORK,
    "emseg data convert folder --help": NO_NETWORK,
    "emseg data convert cremi --help": NO_NETWORK,
    "emseg data inspect t.zarr": NO_NETWORK,
    "emseg data verify t.zarr": NO_NETWORK,
    "emseg data synthesize --out s.zarr --train ['40x50'] --val [] --test []": NO_NETWORK,
    "emseg data convert folder --images i --out c.zarr --split test --pixel-size-nm 4": NO_NETWORK,
    "emseg score p.png t.png": NO_NETWORK,
    "emseg score p.png t.png --panel full --pixel-size-nm 4 --official isbi2012": NO_NETWORK,
    "emseg score p.zarr t.zarr --official cremi": NO_NETWORK,
    "emseg errors p.zarr t.zarr e": NO_NETWORK,
}
"""Modules that must not be loaded by commands; in this order, as all run in one process."""
LIBRARIES = ("segmentation_models_pytorch", "timm", "captum", "sklearn", "wandb")
VERBS: dict[str, Sequence[str]] = {
    "lightning fit --help": (*LIBRARIES, "kornia", "skimage"),
    "lightning predict --help": (*LIBRARIES, "kornia", "skimage"),
    "lightning fit --model VanillaUNet --data Mosaic --data.store t.zarr --model.loss DiceLoss --print_config": (
        *LIBRARIES,
        "lightning_emseg.modules.unet",
        "lightning_emseg.modules.moco",
        "data_modules.tiles",
    ),
}
SCRIPT = """
import contextlib, io, json, sys
from importlib import import_module
programs = {"lightning": "lightning_emseg.cli", "emseg": "lightning_emseg.commands"}
found = []
for command, forbidden in json.loads(sys.argv[1]):
    program, *words = command.split()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            import_module(programs[program]).main(words)
    except SystemExit as error:
        assert not error.code, (command, error.code)
    found.append([name for name in forbidden if name in sys.modules])
print(json.dumps(found))
"""


def loaded_after(commands: dict[str, Sequence[str]], folder: Path) -> dict[str, list[str]]:
    """Forbidden modules that are loaded after each command, all run in one process."""
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = [sys.executable, "-c", SCRIPT, json.dumps(list(commands.items()))]
    done = subprocess.run(script, capture_output=True, text=True, cwd=folder, env=here, timeout=240)
    assert done.returncode == 0, done.stderr
    return dict(zip(commands, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, a folder of one image and two stores: a truth and a prediction of it."""
    path = tmp_path_factory.mktemp("light")
    truth = np.zeros((60, 80), np.uint8)
    truth[20:24], truth[:, 30:33] = 1, 1
    for name, mask in (("t.zarr", truth), ("p.zarr", np.roll(truth, 1, axis=0))):
        made = {"threshold": 0.5, "checkpoint": "0"} if name == "p.zarr" else {}
        with SampleWriter(path / name, "test", "a", truth.shape, (4.0, 4.0), made) as sample:
            sample.image.write(mask * np.uint8(255))
            sample.add_label("membrane", LabelInfo("binary")).write(mask)
    for name in ("p.png", "t.png", "i/a.png"):
        (path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(truth * 255).save(path / name)
    return path


@pytest.fixture(scope="module")
def after_light_commands(folder: Path) -> dict[str, list[str]]:
    return loaded_after(LIGHT, folder)


@pytest.mark.parametrize("command", LIGHT)
def test_light_command_loads_no_network_library(command: str, after_light_commands: dict[str, list[str]]) -> None:
    assert after_light_commands[command] == []


@pytest.fixture(scope="module")
def after_verbs(folder: Path) -> dict[str, list[str]]:
    return loaded_after(VERBS, folder)


@pytest.mark.parametrize("command", VERBS)
def test_verb_loads_only_named_classes(command: str, after_verbs: dict[str, list[str]]) -> None:
    assert after_verbs[command] == []
