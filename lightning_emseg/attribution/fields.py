"""Attribution fields of many pixels of one window: exactly, or fast and nearly so."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_modules.grid import Shape
from lightning_emseg.attribution.outputs import PixelOutput, flat_index
from lightning_emseg.attribution.path import Path, answers_at, path_attributions
from lightning_emseg.attribution.points import groups
from lightning_emseg.attribution.receptive import box_around

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Field:
    """What the answer at one pixel rests on.

    Attributes:
        pixel: Position in the window, in px.
        origin: First pixel of ``values`` in the window.
        values: Attributions ``float32``, one a window pixel; outside of them the field is zero, or taken for it.
        output: F(x), the answer on the image.
        baseline_output: F(x'), the answer on the baseline.
    """

    pixel: Shape
    origin: Shape
    values: Values
    output: float
    baseline_output: float

    @property
    def difference(self) -> float:
        """F(x) − F(x'), which a complete field sums to."""
        return self.output - self.baseline_output

    @property
    def completeness_error(self) -> float:
        """``|Σ A − (F(x) − F(x'))|``."""
        return abs(float(self.values.sum(dtype=np.float64)) - self.difference)

    def whole(self, shape: Sequence[int]) -> Values:
        """The field over all of a window of ``shape`` px."""
        values = np.zeros(shape, np.float32)
        values[tuple(slice(o, o + n) for o, n in zip(self.origin, self.values.shape, strict=True))] = self.values
        return values


def exact_fields(
    answers: PixelOutput,
    image: Tensor,
    baseline: Tensor,
    pixels: Sequence[Shape],
    path: Path,
    radius: Shape | None = None,
    stride: int | Sequence[int] = 1,
) -> list[Field]:
    """Fields with nothing left out.

    Args:
        answers: Of a copy of the network whose weights need no gradient.
        image: ``float (C, *S)``, grey levels 0–255, on the network's device.
        baseline: Likewise.
        pixels: Positions in the window, in px.
        path: Of integration.
        radius: Of the network's receptive field, from
            :func:`~lightning_emseg.attribution.receptive.receptive_radius`: fields then share passes where their
            receptive fields are disjoint, or windows are cut to these, whichever is less work.
        stride: Of the network, one for all axes or one an axis; windows are cut at multiples of it.
    """
    if not pixels:
        return []
    shape = tuple(image.shape[1:])
    if radius is None:
        return _shared(answers, image, baseline, pixels, [[index] for index in range(len(pixels))], path, shape)
    apart = tuple(2 * reach + 1 for reach in radius)
    together = groups(pixels, apart)
    cuts = [box_around(pixel, radius, shape, stride) for pixel in pixels]
    cut_work = 2 * sum(np.prod([part.stop - part.start for part in cut]) for cut in cuts)
    if cut_work >= (1 + len(together)) * np.prod(shape) or not _cuts_are_safe(answers, image, pixels, cuts):
        return _shared(answers, image, baseline, pixels, together, path, radius)
    fields = []
    for pixel, cut in zip(pixels, cuts, strict=True):
        first = tuple(part.start for part in cut)
        inner = tuple(at - start for at, start in zip(pixel, first, strict=True))
        index = (slice(None), *cut)
        (field,) = _shared(answers, image[index], baseline[index], [inner], [[0]], path, radius)
        origin = tuple(a + b for a, b in zip(field.origin, first, strict=True))
        fields.append(Field(pixel, origin, field.values, field.output, field.baseline_output))
    return fields


def fast_fields(
    answers: PixelOutput,
    image: Tensor,
    baseline: Tensor,
    pixels: Sequence[Shape],
    together: Sequence[Sequence[int]],
    path: Path,
    reach: Shape,
) -> list[Field]:
    """Fields of pixels far apart that share passes, cut off at the distance ``reach``.

    What lies between two pixels of a pass goes to the nearer one, see :func:`nearest`. How far this is from the truth
    is measured with :func:`~lightning_emseg.attribution.accuracy.compare`.

    Args:
        answers: Of a copy of the network whose weights need no gradient.
        image: ``float (C, *S)``, grey levels 0–255, on the network's device.
        baseline: Likewise.
        pixels: Positions in the window, in px.
        together: Positions in ``pixels`` of those that share a pass, each of them once; from
            :func:`~lightning_emseg.attribution.points.groups`.
        path: Of integration.
        reach: Largest distance from the pixel that is kept, along each axis, in px.
    """
    return _shared(answers, image, baseline, pixels, together, path, reach)


def _shared(
    answers: PixelOutput,
    image: Tensor,
    baseline: Tensor,
    pixels: Sequence[Shape],
    together: Sequence[Sequence[int]],
    path: Path,
    reach: Shape,
) -> list[Field]:
    shape = tuple(image.shape[1:])
    flat = flat_index(pixels, shape)
    outputs, baseline_outputs = (answers_at(answers, window, flat) for window in (image, baseline))
    sums = path_attributions(answers, image, baseline, [flat[list(group)] for group in together], path).numpy()
    fields: dict[int, Field] = {}
    for group, total in zip(together, sums, strict=True):
        positions = np.array([pixels[index] for index in group])
        for index in group:
            box = box_around(pixels[index], reach, shape)
            values = np.where(nearest(pixels[index], positions, box, reach), total[box], np.float32(0))
            origin = tuple(part.start for part in box)
            output, before = float(outputs[index]), float(baseline_outputs[index])
            fields[index] = Field(tuple(pixels[index]), origin, values, output, before)
    return [fields[index] for index in range(len(pixels))]


def nearest(
    pixel: Sequence[int], positions: NDArray[np.int64], box: tuple[slice, ...], reach: Sequence[int]
) -> NDArray[np.bool_]:
    """Which pixels of a box are nearer to ``pixel`` than to any other position, in Chebyshev distance.

    Distances along an axis are in units of the reach along it: in voxels alone, a pixel four sections away would be
    nearer than one's own border thirty px away, although its field reaches over two sections only.

    Args:
        pixel: One of the positions.
        positions: ``(n, D)``.
        box: Of the window.
        reach: Of the fields, one value an axis, in px.

    Returns:
        Boolean array of the box's shape. A pixel between two positions at equal distance belongs to the first of them.
    """
    axes = np.ogrid[box]
    # Half a pixel more, so that a reach of 0 is a unit too, and what is just beyond a reach is beyond 1.
    units = [each + 0.5 for each in reach]

    def distance(position: Sequence[int]) -> NDArray[np.float64]:
        result = np.zeros([part.stop - part.start for part in box])
        for axis, at, unit in zip(axes, position, units, strict=True):
            result = np.maximum(result, np.abs(axis - at) / unit)
        return result

    own = distance(pixel)
    far = [math.ceil(own.max() * unit) for unit in units]
    mine = np.ones(own.shape, np.bool_)
    before = True
    for other in positions.tolist():
        if other == list(pixel):
            before = False
        elif all(part.start - d <= at < part.stop + d for part, at, d in zip(box, other, far, strict=True)):
            mine &= own < distance(other) if before else own <= distance(other)
    return mine


def _cuts_are_safe(
    answers: PixelOutput, image: Tensor, pixels: Sequence[Shape], cuts: Sequence[tuple[slice, ...]]
) -> bool:
    """Whether cuts leave the answers as they are, which they do not where positions depend on the window's size."""
    # Logits of noise: an empty image and a certain probability are the same whatever the network does to positions.
    logits = PixelOutput(answers.network)
    random = torch.Generator().manual_seed(0)
    noise = (255 * torch.rand(image.shape, generator=random)).to(image.device)
    whole = answers_at(logits, noise, flat_index(pixels, image.shape[1:]))
    for expected, pixel, cut in zip(whole, pixels, cuts, strict=True):
        part = noise[(slice(None), *cut)]
        inner = [at - side.start for at, side in zip(pixel, cut, strict=True)]
        alone = answers_at(logits, part, flat_index([inner], part.shape[1:]))[0]
        if not torch.allclose(expected, alone, rtol=1e-4, atol=1e-4):
            return False
    return True
