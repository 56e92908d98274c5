"""A network of three classes whose class of every pixel is known, and data for it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_modules.mosaic import Mosaic
from data_modules.store import LabelInfo, SampleWriter
from lightning_emseg.modules.mixin import SegmentationMixin
from tests.support import tiny
from tests.support.class_runs import NAMES, VALUES
from tests.support.tiny import Pixels


class Bands(nn.Module):
    """Logits of three classes by the grey value alone: between, dark and bright."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(8.0))

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([0 * image, -self.slope * image - 2, self.slope * image - 2], dim=1)


class BandModule(SegmentationMixin):
    """A module whose classes can be told by hand, see :func:`known_classes`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(Bands(), in_channels=1, stride=1, classes=list(NAMES), **kwargs)


def known_classes(image: Pixels) -> Pixels:
    """What the network finds: the grey values where logits are equal, 127.5 · (1 ± 1/4), are no whole numbers."""
    return np.where(image < 127.5 * 0.75, 1, np.where(image > 127.5 * 1.25, 2, 0)).astype(np.uint8)


def write_classes(
    store: Path,
    key: str,
    image: Pixels,
    positions: Pixels,
    classes: dict[int, str] | None = None,
    provenance: dict[str, Any] | None = None,
) -> None:
    """Write a sample whose label has positions in ``NAMES``, 255 ignored, in other values."""
    classes = classes or dict(zip(VALUES, NAMES, strict=True))
    values = np.full(256, 255, np.uint8)
    for value, name in classes.items():
        values[NAMES.index(name)] = value
    split, name = key.split("/")
    with SampleWriter(store, split, name, image.shape, (4.0, 4.0), provenance or {}) as sample:
        label = sample.add_label("organelles", LabelInfo("classes", classes))
        sample.image.write(image)
        label.write(values[positions])


def data_of(store: Path, **changes: Any) -> Mosaic:
    options = {"label": "organelles", "classes": list(NAMES), "patch_size": 32, "planes": "xy", **changes}
    return tiny.data_of(store, **options)
