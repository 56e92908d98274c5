"""A network whose integrated gradients have a closed form, and stores and checkpoints for studies of it."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from numpy.typing import NDArray
from torch import nn

from data_modules.store import LabelInfo, SampleWriter
from lightning_emseg.commands import main
from lightning_emseg.modules.mixin import SegmentationMixin
from tests.support import tiny

RADIUS = 2
NM = (4.0, 3.0)
SHAPES = {"a": (70, 90), "b": (20, 61), "c": (64, 128)}
Values = NDArray[np.float64]


def kernel() -> NDArray[np.float32]:
    """Dark pixels are foreground, and so are, less surely, those around them."""
    values = np.random.default_rng(7).normal(0, 0.4, (2 * RADIUS + 1,) * 2)
    values[RADIUS, RADIUS] = -5
    return values.astype(np.float32)


class LinearModule(SegmentationMixin):
    """One convolution without a bias."""

    def __init__(self, **kwargs: Any) -> None:
        convolution = nn.Conv2d(1, 1, 2 * RADIUS + 1, padding=RADIUS, bias=False)
        convolution.weight.data = torch.from_numpy(kernel())[None, None]
        super().__init__(convolution, in_channels=1, stride=1, **kwargs)


def field_of(image: Values, baseline: Values, pixel: tuple[int, int]) -> Values:
    """``w · (x − x')`` over the window ``image``, of the logit at ``pixel``."""
    padded = np.zeros([side + 2 * RADIUS for side in image.shape])
    y, x = pixel
    size = 2 * RADIUS + 1
    padded[y : y + size, x : x + size] = kernel() / 127.5
    weights: Values = padded[RADIUS:-RADIUS, RADIUS:-RADIUS]
    return weights * (image - baseline)


def save(module: SegmentationMixin, path: Path) -> Path:
    """A checkpoint as Lightning writes it for a module made in Python."""
    trainer = tiny.quiet_trainer(path.parent)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return path


def checkpoint(folder: Path) -> Path:
    module = LinearModule()
    module.threshold.fill_(0.4)
    module.threshold_source = "chosen by hand"
    return save(module, folder / "linear.ckpt")


def make_store(path: Path, shapes: Mapping[str, tuple[int, int]], labelled: bool = True) -> Path:
    """A store with the split ``test`` and pixels of 4 × 3 nm."""
    for seed, (name, shape) in enumerate(shapes.items()):
        image, mask = tiny.content(shape, seed)
        with SampleWriter(path, "test", name, shape, NM) as sample:
            label = sample.add_label("membrane", LabelInfo("binary")) if labelled else None
            sample.image.write(image)
            if label is not None:
                label.write(mask)
    return path


class Files:
    """A checkpoint of the linear network and a store, and the command on them."""

    def __init__(self, folder: Path) -> None:
        self.store = make_store(folder / "s.zarr", SHAPES)
        self.checkpoint = checkpoint(folder)

    def attribute(self, out: Path, *more: str) -> None:
        where = ["--checkpoint", str(self.checkpoint), "--store", str(self.store), "--split", "test"]
        main(["attribute", *where, "--out", str(out), *more])

    def refused(self, out: Path, *more: str) -> str:
        """The message that it ends with."""
        with pytest.raises(SystemExit) as caught:
            self.attribute(out, *more)
        return str(caught.value.code)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def groups(out: Path) -> list[zarr.Group]:
    root = zarr.open_group(out / "fields.zarr", mode="r")
    return [group for _, group in sorted(root.groups(), key=lambda pair: pair[0])]


def values(group: zarr.Group, key: str) -> NDArray[np.float64]:
    array = group[key]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[:])
