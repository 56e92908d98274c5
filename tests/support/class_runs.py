"""Stores of several classes and of volumes, and runs of the command line on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.ndimage import gaussian_filter
from torch import nn

from data_modules.store import LabelInfo, MosaicStore, SampleWriter, read
from lightning_emseg import cli
from lightning_emseg.modules.mixin import SegmentationMixin
from tests.support.tiny import Pixels

NAMES = ("background", "mito", "golgi")
VALUES = (0, 7, 3)
"""Of the classes in labels; networks see their positions."""
QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "deterministic": True,
    "num_sanity_val_steps": 0,
}


class ClassConvolutions(SegmentationMixin):
    """Three maps of a network without batch norm, whose statistics would depend on the rank's batch."""

    def __init__(self, classes: list[str], **kwargs: Any) -> None:
        layers = [nn.Conv2d(1, 8, 5, padding=2), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, len(NAMES), 5, padding=2)]
        super().__init__(nn.Sequential(*layers), in_channels=1, stride=1, classes=classes, **kwargs)


def content(shape: tuple[int, ...], seed: int) -> tuple[Pixels, Pixels]:
    """A grey image and positions of classes: dark blobs are mito, bright ones golgi; some pixels are ignored."""
    random = np.random.default_rng(seed)
    field = gaussian_filter(random.normal(size=shape), 2.5)
    field /= field.std()
    image = np.clip(128 + 45 * field + random.normal(0, 8, shape), 0, 255).astype(np.uint8)
    positions = np.where(field < -0.7, 1, np.where(field > 0.8, 2, 0)).astype(np.uint8)
    positions[tuple(slice(side // 3, side // 3 + 5) for side in shape)] = 255
    return image, positions


def make_store(
    path: Path, sizes: Mapping[str, tuple[tuple[int, ...], Sequence[float]]], label: str = "organelles"
) -> dict[str, tuple[Pixels, Pixels]]:
    """Write samples of shape and pixel size by key; returns image and positions of classes of each."""
    made = {}
    values = np.full(256, 255, np.uint8)
    values[: len(VALUES)] = VALUES
    info = LabelInfo("classes", dict(zip(VALUES, NAMES, strict=True)))
    for number, (key, (shape, pixel_size_nm)) in enumerate(sizes.items()):
        made[key] = image, positions = content(shape, number)
        split, name = key.split("/")
        with SampleWriter(path, split, name, shape, pixel_size_nm) as sample:
            sample.image.write(image)
            sample.add_label(label, info).write(values[positions])
    return made


def experiment(store: Path, data: Mapping[str, Any], model: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A small U-Net of three classes, two epochs."""
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.03}}
    arguments = {"base_channels": 4, "depth": 2, "optimizer": adam, "classes": list(NAMES), **(model or {})}
    common = {"store": str(store), "label": "organelles", "classes": list(NAMES), "patch_size": 32, "batch_size": 4}
    return {
        "seed_everything": 1,
        "model": {"class_path": "VanillaUNet", "init_args": arguments},
        "data": {"class_path": "Mosaic", "init_args": {**common, "patches_per_epoch": 48, **data}},
        "trainer": {**QUIET, "max_epochs": 2, "log_every_n_steps": 1},
    }


def lightning(verb: str, folder: Path, config: Mapping[str, Any], *more: str) -> None:
    """Run a verb in ``folder/run``."""
    path = folder / f"{verb}.yaml"
    path.write_text(yaml.safe_dump(dict(config)))
    cli.main([verb, "--config", str(path), "--trainer.default_root_dir", str(folder / "run"), *more])


def predicted(store: Path, key: str, label: str = "organelles") -> tuple[Pixels, Pixels]:
    """Probability and mask of a prediction."""
    sample = MosaicStore(store).sample(key)
    whole = [slice(0, side) for side in sample.image.shape]
    return read(sample.image, whole), read(sample.labels[label], whole)
