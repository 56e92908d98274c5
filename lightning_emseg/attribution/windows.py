"""Windows of mosaics: sizes, random numbers of places, images, baselines."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import nn

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.geometry import Shape
from data_modules.store import MosaicView

SECTION_AXES = 2
"""Y and X, the last axes of an image and of a volume."""


def per_axis(given: int | Sequence[int], axes: int) -> Shape:
    """Give each axis a number: one for all, or one for each.

    >>> per_axis(4, 3), per_axis((1, 4, 4), 3)
    ((4, 4, 4), (1, 4, 4))
    """
    return (given,) * axes if isinstance(given, int) else tuple(given)


def strides_of(network: nn.Module, stride: int, axes: int) -> Shape:
    """Find the multiples that the sides of windows must have, one an axis.

    Args:
        network: One of volumes says it itself, as it shrinks sections and their number by factors of their own.
        stride: Stride for all axes, where the network does not say.
        axes: Number of axes of the windows.
    """
    own = getattr(network, "stride", None)
    return tuple(own) if axes > SECTION_AXES and isinstance(own, tuple) and len(own) == axes else (stride,) * axes


def window_sides(given: int | Sequence[int], settings: Mapping[str, Any], axes: int) -> Shape:
    """Find the sides of the wanted window.

    Args:
        given: One side for all axes, of volumes no larger than the patch that the network is built for; or one side an
            axis, which is taken as it is.
        settings: Hyperparameters of the network's module; those of volumes name their ``patch``.
        axes: Number of axes of the windows.
    """
    patch = settings.get("patch") if axes > SECTION_AXES else None
    if not isinstance(given, int) or patch is None:
        return per_axis(given, axes)
    return tuple(min(given, int(side)) for side in patch)


def resized_sides(given: int | Sequence[int], window: Shape) -> Shape:
    """Find the resized sides: one side for the sections, whose number stays, or one side an axis.

    >>> resized_sides(512, (8, 1024, 1024)), resized_sides(512, (1024, 1024))
    ((8, 512, 512), (512, 512))
    """
    return (*window[:-SECTION_AXES], *(given,) * SECTION_AXES) if isinstance(given, int) else tuple(given)


def refuse_sides(
    option: str, given: int | Sequence[int], sides: Shape, axes: int, strides: Shape | None = None
) -> Shape:
    """Refuse sides that windows or the network cannot have, and return all others.

    Args:
        option: Name of the command's option.
        given: Value of the option.
        sides: Sides that the value means.
        axes: Number of axes of the windows.
        strides: Numbers that the sides must be multiples of.

    Raises:
        UserError: naming the option.
    """
    if len(sides) != axes or min(sides) < 1:
        raise UserError(f"--{option} {given} has to be one side or {axes} sides of at least 1 px")
    for side, stride in zip(sides, strides or (1,) * axes, strict=True):
        if side % stride:
            nearest = max(1, round(side / stride)) * stride
            raise UserError(f"--{option} {side} is no multiple of the network's {stride} px: take {nearest}")
    return sides


def grid_steps(step: int, pixel_size_nm: Sequence[float], window: Shape, resized: Shape) -> Shape:
    """Find the steps of a grid: along Y and X as given, across sections the nearest to that in nm, and at least one.

    Args:
        step: Along Y and X, in px after any resize.
        pixel_size_nm: Pixel size of the mosaic, one value an axis.
        window: Size of a window in px of the mosaic.
        resized: Size in px after any resize.

    >>> grid_steps(10, (40.0, 4.0, 4.0), (8, 64, 64), (8, 64, 64)), grid_steps(10, (4.0, 3.0), (64, 64), (32, 32))
    ((1, 10, 10), (10, 10))
    """
    sizes = [nm * side / after for nm, side, after in zip(pixel_size_nm, window, resized, strict=True)]
    return (*(max(1, round(step * sizes[-1] / nm)) for nm in sizes[:-SECTION_AXES]), *(step,) * SECTION_AXES)


def refuse_planes(network_axes: int, axes: int) -> None:
    """Refuse networks of images on volumes, which they see plane by plane.

    Args:
        network_axes: Number of axes of what the network takes.
        axes: Number of axes of the mosaics.

    Raises:
        UserError: because a field would be of one plane and not of the volume.
    """
    if network_axes < axes:
        raise UserError(
            "attribution fields: the network takes images and the mosaics are volumes, which it sees plane by plane; "
            "take a network of volumes, or a store of single sections"
        )


Hashes = NDArray[np.uint64]
_STEP = 0x9E3779B97F4A7C15
_WORD = 2**64 - 1
# What the numbers of a place are for; those of two purposes have nothing to do with each other.
PRIORITY, _NOISE = 1, 2


def hash_name(name: str) -> int:
    """Hash the name of a mosaic to a whole number below 2⁶⁴, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def location_hash(key: Sequence[int], origin: Sequence[int], shape: Sequence[int]) -> Hashes:
    """Draw uniform 64-bit numbers that depend on key and absolute position alone.

    Every number of the key, then every coordinate, picks one output of the splitmix64 generator that the number before
    it has seeded; the first seed is the length of the key. Source: Steele, Lea and Flood, "Fast splittable
    pseudorandom number generators", OOPSLA 2014, with the constants of Vigna's splitmix64.

    Args:
        key: Numbers such as purpose, seed and mosaic; taken modulo 2⁶⁴.
        origin: First pixel of the window in its mosaic, in px, as many axes as ``shape``; may be negative where a
            window reaches over the border.
        shape: Shape of the window, in px.

    Returns:
        ``uint64`` of ``shape``, 0 to 2⁶⁴ − 1.

    Raises:
        ValueError: if ``origin`` and ``shape`` differ in their number of axes.

    >>> int(location_hash([7], (100, 200), (64, 64))[5, 6]) == int(location_hash([7], (105, 206), (1, 1))[0, 0])
    True
    """
    # An array, not a scalar: those wrap around without a warning.
    state = np.array([len(key)], np.uint64)
    for number in key:
        state = _splitmix64(state, np.array([number & _WORD], np.uint64))
    for start, side in zip(origin, shape, strict=True):
        state = _splitmix64(state[..., None], np.arange(start, start + side, dtype=np.int64).astype(np.uint64))
    window: Hashes = state[0]
    return window


def location_noise(key: Sequence[int], origin: Sequence[int], shape: Sequence[int]) -> NDArray[np.uint8]:
    """Draw a random noise image: grey levels uniform over 0–255, the baseline of the attribution of U-RISC's authors.

    Windows over the same place share their noise. Source: "the random noise image" of the U-RISC preprint (2021),
    equations 7–10, which does not give its distribution.

    Args:
        key: Seed and mosaic.
        origin: First pixel of the window in its mosaic, in px.
        shape: Shape of the window, in px.

    Returns:
        ``uint8`` of ``shape``.
    """
    return (location_hash((_NOISE, *key), origin, shape) >> np.uint64(56)).astype(np.uint8)


def _splitmix64(seed: Hashes, index: Hashes) -> Hashes:
    """Compute output ``index`` of the splitmix64 generators seeded by ``seed``; broadcasts."""
    state = seed + (index + np.uint64(1)) * np.uint64(_STEP)
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return state


Baseline = Literal["noise", "zero", "mean", "blurred"]
GreyWindow = NDArray[np.float32]
_BLUR_NM = 200.0


def baseline_window(
    kind: Baseline, image: GreyWindow, key: Sequence[int], origin: Sequence[int], pixel_size_nm: Sequence[float]
) -> GreyWindow:
    """Make the window that the path begins at.

    Args:
        kind: ``noise``, uniform over the grey range and the same wherever a location is seen (Shi et al. 2021: "the
            random noise image"); ``zero``, which is black; ``mean``, the middle of the grey range, 127.5 (what zeros
            are in the published code, after normalisation); ``blurred``, the image through a Gaussian with a standard
            deviation of 200 nm, in which membranes cannot be seen any more; volumes section by section.
        image: ``float32 (C, *S)``, grey levels 0–255.
        key: Seed and number of the mosaic.
        origin: First pixel of the window in its mosaic, in px.
        pixel_size_nm: One value an axis.

    Returns:
        ``float32 (C, *S)``, grey levels 0–255.
    """
    if kind == "noise":
        channels = [location_noise((*key, channel), origin, image.shape[1:]) for channel in range(len(image))]
        return np.stack(channels).astype(np.float32)
    if kind == "blurred":
        # Not across sections: they differ in brightness and place, and within each of them nothing is left to be seen.
        across = [0.0] * (image.ndim - SECTION_AXES)
        in_plane = [_BLUR_NM / size for size in pixel_size_nm[-SECTION_AXES:]]
        blurred: GreyWindow = gaussian_filter(image, [*across, *in_plane], mode="reflect")
        return blurred
    return np.full_like(image, {"zero": 0, "mean": 127.5}[kind])


@dataclass(frozen=True)
class Place:
    """Where a window lies.

    Attributes:
        mosaic: Position of the mosaic in its list.
        origin: First pixel of the window in its mosaic, in px.
        size: Size of the window in px of the mosaic; it reaches past the end of a mosaic that is smaller.
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
        """Shape of the part that belongs to the mosaic, in px."""
        return tuple(part.stop - part.start for part in self.inside)


def window_shape(wanted: Sequence[int], mosaic: Sequence[int], stride: int | Sequence[int]) -> Shape:
    """Fit the wanted window to a mosaic that may be smaller, in multiples of ``stride`` px.

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
        mosaic: Mosaic that the place is in.
        place: Place of the window.
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
        resized = F.interpolate(torch.from_numpy(truth.astype(np.float32))[None, None], shape, mode="nearest-exact")
        truth = resized[0, 0].numpy().astype(np.uint8)
    inside = tuple(
        # In whole numbers: a quotient of floats can end up just above the side.
        slice(0, -(-min(size, extent - start) * side // size))
        for size, extent, start, side in zip(place.size, mosaic.shape, place.origin, shape, strict=True)
    )
    pixel_size_nm = tuple(size * step for size, step in zip(mosaic.pixel_size_nm, scale, strict=True))
    return Window(mosaic.key, image[None], truth, inside, pixel_size_nm, scale)


def _antialiased(image: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    # Torch antialiases two axes at a time: those of a section, then that of the sections beside all others.
    sections = torch.from_numpy(image).reshape(-1, 1, *image.shape[-2:])
    found = F.interpolate(sections, shape[-2:], mode="bilinear", antialias=True).flatten(1)
    if len(shape) > 2 and shape[0] != len(found):
        found = F.interpolate(found[None, None], (shape[0], found.shape[1]), mode="bilinear", antialias=True)[0, 0]
    resized: NDArray[np.float32] = found.view(shape).numpy()
    return resized
