"""Small stores, a network whose answer is known, and a quiet trainer; shared by the tests of the package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from data_modules.mosaic import Mosaic
from data_modules.store import LabelInfo, SampleWriter
from lightning_emseg.modules.mixin import SegmentationMixin

Pixels = NDArray[np.uint8]
SLOPE = 8.0
ENCODER = "tu-test_resnet"
"""Residual encoder of segmentation_models_pytorch with 0.4 million weights, where a ResNet-18 has 11 million."""
TIMM_ENCODER = "test_resnet"
"""The same for networks that take their encoder from timm."""
SPLITS: Mapping[str, tuple[tuple[int, int], ...]] = {
    "train": ((150, 170), (130, 200)),
    "val": ((101, 130), (64, 90)),
    # Odd sizes, one below a tile of 64 px along both axes, one along X alone.
    "test": ((133, 97), (50, 40), (200, 61)),
}


def content(shape: tuple[int, ...], seed: int) -> tuple[Pixels, Pixels]:
    """A grey image and a mask that its dark parts resemble, with a patch of ignored pixels."""
    random = np.random.default_rng(seed)
    field = gaussian_filter(random.normal(size=shape), 2.5)
    field /= field.std()
    image = np.clip(128 + 45 * field + random.normal(0, 12, shape), 0, 255).astype(np.uint8)
    mask = (field + random.normal(0, 0.3, shape) < -0.7).astype(np.uint8)
    mask[tuple(slice(side // 3, side // 3 + 7) for side in shape)] = 255
    return image, mask


def write_sample(
    store: Path, key: str, image: Pixels, mask: Pixels | None, label: str = "membrane", pixel_size_nm: float = 4.0
) -> None:
    split, name = key.split("/")
    with SampleWriter(store, split, name, image.shape, (pixel_size_nm,) * image.ndim) as sample:
        writer = None if mask is None else sample.add_label(label, LabelInfo("binary"))
        sample.image.write(image)
        if writer is not None and mask is not None:
            writer.write(mask)


def make_store(
    path: Path, splits: Mapping[str, tuple[tuple[int, ...], ...]] = SPLITS
) -> dict[str, tuple[Pixels, Pixels]]:
    """Write a store and return image and mask by key."""
    made = {}
    for number, (split, shapes) in enumerate(splits.items()):
        for index, shape in enumerate(shapes):
            key = f"{split}/m{index}"
            made[key] = content(shape, 10 * number + index)
            write_sample(path, key, *made[key])
    return made


class OfGrey(nn.Module):
    """Logits that fall with the grey value of the pixel alone; one weight, so that it can be trained and saved."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(-SLOPE))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.slope * image
        return logits


class GreyModule(SegmentationMixin):
    """A module whose probability map can be computed by hand, see :func:`known_map`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(OfGrey(), in_channels=1, stride=1, **kwargs)


class ConvolutionModule(SegmentationMixin):
    """A small network that can be trained and has no batch norm, whose statistics would depend on the rank's batch."""

    def __init__(self, **kwargs: Any) -> None:
        layers = [nn.Conv2d(1, 8, 5, padding=2), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 1, 5, padding=2)]
        super().__init__(nn.Sequential(*layers), in_channels=1, stride=1, **kwargs)


def known_map(image: Pixels) -> Pixels:
    """Quantised probability of :class:`GreyModule`, in double precision, without any of the package's code."""
    scaled = 255 / (1 + np.exp(SLOPE * (image.astype(np.float64) - 127.5) / 127.5))
    # No grey level may lie so close to a half that single precision could round it the other way.
    levels = 255 / (1 + np.exp(SLOPE * (np.arange(256) - 127.5) / 127.5))
    assert np.abs(levels % 1 - 0.5).min() > 1e-4
    return np.round(scaled).astype(np.uint8)


def data_of(store: Path, **changes: Any) -> Mosaic:
    options: dict[str, Any] = {"patch_size": 64, "batch_size": 2, "patches_per_epoch": 4, "seed": 3}
    return Mosaic(str(store), **{**options, **changes})


def quiet_trainer(folder: Path, **changes: Any) -> pl.Trainer:
    options: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    return pl.Trainer(**{**options, **changes})


class Losses(pl.Callback):
    """Losses of training steps, in their order."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        self.values.append(float(outputs["loss"].detach()))
