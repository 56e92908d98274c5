"""Windows of mosaics as the network sees them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.grid import Shape
from data_modules.store import MosaicView
from lightning_emseg.attribution.baselines import Baseline, baseline_window
from lightning_emseg.attribution.location_hash import number_of
from lightning_emseg.attribution.sides import per_axis


@dataclass(frozen=True)
class Place:
    """Where a window lies.

    Attributes:
        mosaic: Position of the mosaic in its list.
        origin: First pixel of the window in its mosaic, in px.
        size: Of the window in px of the mosaic; it reaches past the end of a mosaic that is smaller.
    """

    mosaic: int
    origin: Shape
    size: Shape


@dataclass(frozen=True)
class Window:
    """One window.

    Attributes:
        mosaic: ``<split>/<sample>``.
        image: ``float32 (C, *S)``, grey levels 0–255; mirrored where the window reaches past the mosaic.
        truth: ``uint8 (*S)``: 0, 1, or 255 where ignored or outside the mosaic; all 255 without labels.
        inside: The part of the window that belongs to the mosaic.
        pixel_size_nm: One value an axis, after any resize.
        scale: Pixels of the mosaic in one of the window, along each axis.
    """

    mosaic: str
    image: NDArray[np.float32]
    truth: NDArray[np.uint8]
    inside: tuple[slice, ...]
    pixel_size_nm: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def shape_inside(self) -> Shape:
        """Of the part that belongs to the mosaic, in px."""
        return tuple(part.stop - part.start for part in self.inside)


def window_shape(wanted: Sequence[int], mosaic: Sequence[int], stride: int | Sequence[int]) -> Shape:
    """The wanted window, or one that just covers the mosaic where that is smaller, in multiples of ``stride`` px.

    The stride is one for all axes or one an axis.

    >>> window_shape((512, 512), (1000, 300), 32)
    (512, 320)
    """
    strides = per_axis(stride, len(wanted))
    return tuple(
        math.ceil(min(side, extent) / step) * step for side, extent, step in zip(wanted, mosaic, strides, strict=True)
    )


def read_window(mosaic: MosaicView, place: Place, resize: Shape | None = None) -> Window:
    """Read a window and bring it to another size where that is wanted.

    Args:
        mosaic: That the place is in.
        place: Of the window.
        resize: Size in px that the network sees, as the published loader of U-RISC resizes to 512; the image by
            antialiased linear interpolation along all axes, the truth by nearest neighbour.
    """
    image = mosaic.read_image(place.origin, place.size).astype(np.float32)
    if mosaic.mask is not None:
        truth = mosaic.read_mask(place.origin, place.size)
    else:
        truth = np.full(image.shape, IGNORE, np.uint8)
    shape = resize or place.size
    scale = tuple(size / side for size, side in zip(place.size, shape, strict=True))
    if shape != place.size:
        image = _antialiased(image, shape)
        truth = _nearest(truth, shape)
    inside = tuple(
        # In whole numbers: a quotient of floats can end up just above the side.
        slice(0, -(-min(size, extent - start) * side // size))
        for size, extent, start, side in zip(place.size, mosaic.shape, place.origin, shape, strict=True)
    )
    pixel_size_nm = tuple(size * step for size, step in zip(mosaic.pixel_size_nm, scale, strict=True))
    return Window(mosaic.key, image[None], truth, inside, pixel_size_nm, scale)


def baseline_of(window: Window, kind: Baseline, place: Place, seed: int) -> NDArray[np.float32]:
    """The baseline of a window, ``float32 (C, *S)``.

    Noise belongs to places, so that overlapping windows share it, unless they are resized: noise is made as fine as the
    pixels that the network sees.
    """
    return baseline_window(kind, window.image, (seed, number_of(window.mosaic)), place.origin, window.pixel_size_nm)


def _antialiased(image: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    # Torch antialiases two axes at a time: those of a section, then that of the sections beside all others.
    sections = torch.from_numpy(image).reshape(-1, 1, *image.shape[-2:])
    found = F.interpolate(sections, shape[-2:], mode="bilinear", antialias=True).flatten(1)
    if len(shape) > 2 and shape[0] != len(found):
        found = F.interpolate(found[None, None], (shape[0], found.shape[1]), mode="bilinear", antialias=True)[0, 0]
    resized: NDArray[np.float32] = found.view(shape).numpy()
    return resized


def _nearest(truth: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
    found = F.interpolate(torch.from_numpy(truth.astype(np.float32))[None, None], shape, mode="nearest-exact")
    resized: NDArray[np.uint8] = found[0, 0].numpy().astype(np.uint8)
    return resized
