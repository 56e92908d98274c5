"""Batches that tests of augmentation share: noise, and parameters that are given instead of drawn."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_modules.augment.transforms import Draw
from data_modules.augment.volumes import VolumeAugment
from data_modules.batch import Batch

DEPTH = 6
EVERYTHING: dict[str, Any] = {
    "grey_probability": 1.0, "section_contrast": 0.1, "section_brightness": 0.1, "missing_probability": 0.2,
    "missing_grey": None, "misaligned_probability": 0.8, "shift_px": 6,
}  # fmt: skip


def batch_of(image: Tensor, mask: Tensor, indices: list[int] | None = None) -> Batch:
    """A batch of patches of two or three axes, of one mosaic and with voxels of 1 nm."""
    count, axes = len(image), mask.ndim - 1
    return Batch(
        image=image,
        mask=mask,
        mosaic=torch.zeros(count, dtype=torch.int64),
        origin=torch.zeros(count, axes, dtype=torch.int64),
        pixel_size_nm=torch.ones(count, axes),
        index=torch.tensor(list(range(count)) if indices is None else indices),
    )


def noise(count: int = 2, depth: int = DEPTH, height: int = 32, width: int = 32, classes: int = 4) -> Batch:
    random = np.random.default_rng(count)
    image = torch.from_numpy(random.integers(0, 256, (count, 1, depth, height, width), dtype=np.uint8))
    mask = torch.from_numpy(random.integers(0, classes, (count, depth, height, width), dtype=np.uint8))
    mask[:, :, 5:9, 7:20] = 255
    return batch_of(image, mask)


def drawn(depth: int = DEPTH, **changes: Any) -> Draw:
    """Parameters that change nothing but what is given."""
    return Draw(
        **{"sections": np.arange(depth), "shift": np.zeros((depth, 2)), "missing": np.zeros(depth, bool), **changes}
    )


def forced(batch: Batch, *draws: Draw, **options: Any) -> Batch:
    """What is made of given parameters."""
    return VolumeAugment(**options).apply(batch, draws)
