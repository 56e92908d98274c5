"""A network of volumes whose integrated gradients have a closed form, and a store for it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from data_modules.store import LabelInfo, SampleWriter
from lightning_emseg.modules.mixin import SegmentationMixin
from tests.support import tiny

RADII = (1, 2, 2)
NM = (40.0, 4.0, 3.0)
SHAPES = {"a": (6, 30, 26), "b": (5, 20, 40)}
Values = NDArray[np.float64]


def kernel() -> NDArray[np.float32]:
    """Dark voxels are foreground, and so are, less surely, those around them."""
    values = np.random.default_rng(7).normal(0, 0.4, [2 * radius + 1 for radius in RADII])
    values[RADII] = -5
    return values.astype(np.float32)


class LinearVolumeModule(SegmentationMixin):
    """One convolution without a bias, and a second map that nothing but its training knows."""

    network_axes = 3

    def __init__(self, **kwargs: Any) -> None:
        convolution = nn.Conv3d(1, 2, kernel().shape, padding=RADII, bias=False)
        convolution.weight.data = torch.from_numpy(np.stack([kernel(), -3 * kernel()]))[:, None]
        super().__init__(convolution, in_channels=1, stride=1, **kwargs)


def field_of(image: Values, baseline: Values, pixel: tuple[int, ...]) -> Values:
    """``w · (x − x')`` over the window ``image``, of the logit at ``pixel``, normalised as S_k is."""
    padded = np.zeros([side + 2 * radius for side, radius in zip(image.shape, RADII, strict=True)])
    padded[tuple(slice(at, at + side) for at, side in zip(pixel, kernel().shape, strict=True))] = kernel() / 127.5
    inner = tuple(slice(radius, -radius) for radius in RADII)
    field: Values = padded[inner] * (image - baseline)
    field /= np.abs(field).max()
    return field


def make_store(path: Path, splits: tuple[str, ...] = ("test",)) -> Path:
    """Volumes of 40 × 4 × 3 nm with a label ``cleft`` in each of the splits."""
    for split in splits:
        for seed, (name, shape) in enumerate(SHAPES.items()):
            image, mask = tiny.content(shape, seed)
            with SampleWriter(path, split, name, shape, NM) as sample:
                label = sample.add_label("cleft", LabelInfo("binary"))
                sample.image.write(image)
                label.write(mask)
    return path
