"""Attribution fields of many pixels of one window: integrated gradients, exactly or fast and nearly so."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data_modules.geometry import Shape
from lightning_emseg.attribution.method import Field
from lightning_emseg.attribution.network import PixelOutput, box_around, flat_index, single_precision
from lightning_emseg.attribution.points import group_pixels

PathRule = Literal["riemann_middle", "riemann_trapezoid", "riemann_left", "riemann_right", "gausslegendre"]
Precision = Literal["32", "bf16"]
# Larger batches are slower on a CPU, whose caches they leave; an accelerator wants more, and its memory allows this.
_BATCH_PX = {"cpu": 2**18, "cuda": 2**22}
_GROUPS_AT_ONCE = 64
_PROBES = 12
"""Positions at which cut windows are compared with whole ones."""


@dataclass(frozen=True)
class IntegrationPath:
    """How the integral over the path is approximated.

    Attributes:
        steps: Points on the path, at least 2; 100 in the published code of U-RISC.
        rule: Positions and weights of the points, as captum names them.
        precision: ``bf16`` computes in 16-bit brain floats where autocast finds them safe.
    """

    steps: int = 100
    rule: PathRule = "riemann_middle"
    precision: Precision = "32"

    def nodes(self) -> list[tuple[float, float]]:
        """Compute positions on the path, 0 at the baseline and 1 at the image, and their weights, which sum to 1."""
        n = self.steps
        if self.rule == "gausslegendre":
            places, weights = np.polynomial.legendre.leggauss(n)
            alphas, sizes = (0.5 * (1 + places)).tolist(), (0.5 * weights).tolist()
        else:
            first, last = {
                "riemann_left": (0, 1 - 1 / n),
                "riemann_middle": (1 / (2 * n), 1 - 1 / (2 * n)),
                "riemann_right": (1 / n, 1),
                "riemann_trapezoid": (0, 1),
            }[self.rule]
            alphas, sizes = torch.linspace(first, last, n).tolist(), [1 / n] * n
            if self.rule == "riemann_trapezoid":
                sizes[0] = sizes[-1] = sizes[0] / 2
        # Trapezoids are 1/(n − 1) wide, others 1/n: only the sum makes them the same rule as captum's.
        whole = sum(sizes)
        return [(alpha, size / whole) for alpha, size in zip(alphas, sizes, strict=True)]


def path_attributions(
    answers: nn.Module, image: Tensor, baseline: Tensor, groups: Sequence[Tensor], path: IntegrationPath
) -> Tensor:
    """Integrate gradients of sums of pixels (Sundararajan et al. 2017; Shi et al. 2021, eqs. 7–9).

    ``A_i = (x_i − x'_i) · Σ_s weight_s · ∂ Σ_p F_p(x' + α_s (x − x')) / ∂x_i``, summed over channels. The forward pass
    of a step is shared by all groups.

    Args:
        answers: :class:`~lightning_emseg.attribution.network.PixelOutput` whose parameters need no gradient.
        image: ``float (C, *S)``, grey levels 0–255, on the network's device.
        baseline: Baseline of the same shape.
        groups: ``int64 (n,)`` each: the pixels of one sum, as positions in the flattened window.
        path: Path of integration.

    Returns:
        ``float32 (len(groups), *S)`` on the CPU.
    """
    device, shape = image.device, (-1, *(1,) * image.ndim)
    batch = max(1, _BATCH_PX.get(device.type, _BATCH_PX["cuda"]) // image[0].numel())
    nodes = torch.tensor(path.nodes(), dtype=torch.float32, device=device)
    fields = torch.zeros(len(groups), *image.shape[1:])
    for first in range(0, len(groups), _GROUPS_AT_ONCE):
        some = groups[first : first + _GROUPS_AT_ONCE]
        exact = path.precision == "32"
        arithmetic = single_precision(device) if exact else torch.autocast(device.type, torch.bfloat16)
        # Inside `validate` Lightning is in inference mode, which no gradient survives.
        with torch.inference_mode(False), torch.enable_grad(), arithmetic:
            difference = image - baseline
            sums = torch.zeros(len(some), *image.shape[1:], device=device)
            for alphas, weights in (part.unbind(1) for part in torch.split(nodes, batch)):
                points = (baseline + alphas.view(shape) * difference).requires_grad_()
                found = answers(points)
                for index, group in enumerate(some):
                    pull = torch.zeros_like(found)
                    pull[:, group.to(device)] = weights[:, None].to(found.dtype)
                    (gradient,) = torch.autograd.grad(found, points, pull, retain_graph=index < len(some) - 1)
                    sums[index] += (gradient * difference).sum(dim=(0, 1))
        fields[first : first + _GROUPS_AT_ONCE] = sums.cpu()
    return fields


def compute_answers(answers: nn.Module, window: Tensor, pixels: Tensor) -> Tensor:
    """Compute the network's answers ``float32 (P,)`` at flat positions of a window ``(C, *S)``, on the CPU."""
    with torch.inference_mode(False), torch.no_grad(), single_precision(window.device):
        found: Tensor = answers(window[None])[0, pixels.to(window.device)].float().cpu()
    return found


def exact_groups(
    pixels: Sequence[Shape],
    shape: Sequence[int],
    radius: Shape | None,
    stride: int | Sequence[int] = 1,
    cuts: bool = False,
) -> list[list[int]]:
    """Group the pixels of a window for :func:`exact_fields`, by which way is less work.

    Either pixels share passes over the window where their receptive fields are disjoint, or each pixel is alone, with
    the window cut to its receptive field.

    Args:
        pixels: All positions in the window that are wanted, in px.
        shape: Shape of the window, in px.
        radius: Radius of the receptive field, from
            :func:`~lightning_emseg.attribution.network.receptive_radius`; ``None`` where it is unknown.
        stride: Stride of the network, one for all axes or one an axis; windows are cut at multiples of it.
        cuts: Whether windows may be cut, from :func:`cuts_are_safe`.

    Returns:
        Positions in ``pixels``.
    """
    alone = [[index] for index in range(len(pixels))]
    if radius is None:
        return alone
    together = group_pixels(pixels, tuple(2 * reach + 1 for reach in radius))
    # A forward and a backward pass each; forward passes over the window are shared by all groups.
    cut_work = 2 * sum(_size(box_around(pixel, radius, shape, stride)) for pixel in pixels)
    return alone if cuts and cut_work < (1 + len(together)) * math.prod(shape) else together


def exact_fields(
    answers: PixelOutput,
    image: Tensor,
    baseline: Tensor,
    pixels: Sequence[Shape],
    together: Sequence[Sequence[int]],
    path: IntegrationPath,
    radius: Shape | None = None,
    stride: int | Sequence[int] = 1,
    cuts: bool = False,
) -> list[Field]:
    """Compute fields with nothing left out.

    A field depends on its own group only. Windows of another size may take another kernel, which rounds differently, so
    that what a window is cut to must not depend on which other groups a process computes.

    Args:
        answers: Outputs of a copy of the network whose weights need no gradient.
        image: ``float (C, *S)``, grey levels 0–255, on the network's device.
        baseline: Baseline of the same shape.
        pixels: Positions in the window, in px.
        together: Positions in ``pixels`` of those that share a pass, each of them once; from :func:`exact_groups`.
        path: Path of integration.
        radius: Radius of the receptive field, from
            :func:`~lightning_emseg.attribution.network.receptive_radius`; without it, no pixels may share a pass.
        stride: Stride of the network, one for all axes or one an axis; windows are cut at multiples of it.
        cuts: Whether the window of a pixel that is alone is cut to its receptive field, from :func:`cuts_are_safe`.
    """
    reach = radius or tuple(image.shape[1:])
    fields: dict[int, Field] = {}
    shared = []
    for group in together:
        box = box_around(pixels[group[0]], reach, image.shape[1:], stride)
        if cuts and len(group) == 1 and _saves_work(box, image.shape[1:]):
            pixel, part = pixels[group[0]], (slice(None), *box)
            inside = tuple(at - side.start for at, side in zip(pixel, box, strict=True))
            (field,) = shared_fields(answers, image[part], baseline[part], [inside], [[0]], path, reach)
            origin = tuple(at + side.start for at, side in zip(field.origin, box, strict=True))
            fields[group[0]] = replace(field, pixel=pixel, origin=origin)
        else:
            shared.append(group)
    whole = [index for group in shared for index in group]
    if whole:
        place = {index: at for at, index in enumerate(whole)}
        groups_of_whole = [[place[index] for index in group] for group in shared]
        found = shared_fields(
            answers, image, baseline, [pixels[index] for index in whole], groups_of_whole, path, reach
        )
        fields.update(zip(whole, found, strict=True))
    return [fields[index] for index in range(len(pixels))]


def cuts_are_safe(network: nn.Module, shape: Sequence[int], radius: Shape, stride: int | Sequence[int]) -> bool:
    """Find out whether windows that are cut to receptive fields keep the answers.

    They do not where a network treats a position by the size of its window. Asked of noise at a few random positions,
    which do not depend on the pixels that are attributed.

    Args:
        network: Network whose logits ``(1, 1, *S)`` are compared.
        shape: Shape ``(C, *S)`` of the windows.
        radius: Radius of the receptive field in px, one value an axis.
        stride: Stride of the network; windows are cut at multiples of it.
    """
    sides = tuple(shape[1:])
    random = np.random.default_rng(0)
    pixels = [tuple(random.integers(0, sides).tolist()) for _ in range(_PROBES)]
    boxes = [box_around(pixel, radius, sides, stride) for pixel in pixels]
    if not any(_saves_work(box, sides) for box in boxes):
        return False
    # Logits of noise: an empty image and a certain probability are the same whatever the network does to positions.
    logits, noise = PixelOutput(network), noise_for(network, shape)
    for expected, pixel, box in zip(
        compute_answers(logits, noise, flat_index(pixels, sides)), pixels, boxes, strict=True
    ):
        part = noise[(slice(None), *box)]
        inside = tuple(at - side.start for at, side in zip(pixel, box, strict=True))
        alone = compute_answers(logits, part, flat_index([inside], part.shape[1:]))[0]
        if not torch.allclose(expected, alone, rtol=1e-4, atol=1e-4):
            return False
    return True


def noise_for(network: nn.Module, shape: Sequence[int]) -> Tensor:
    """Make a window of grey noise on the device of a network, the same one in every process.

    Args:
        network: Network that gets the window.
        shape: Shape ``(C, *S)`` of the window.

    Returns:
        Grey levels 0–255, ``float (C, *S)``.
    """
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    return (255 * torch.rand(*shape, generator=torch.Generator().manual_seed(0))).to(device)


def shared_fields(
    answers: PixelOutput,
    image: Tensor,
    baseline: Tensor,
    pixels: Sequence[Shape],
    together: Sequence[Sequence[int]],
    path: IntegrationPath,
    reach: Shape,
) -> list[Field]:
    """Compute fields of pixels far apart that share passes, cut off at the distance ``reach``.

    Values between two pixels of a pass go to the nearer one, see :func:`is_nearest`. The error of that is measured with
    :func:`~lightning_emseg.attribution.areas.compare_fields`. A field depends on its own group only.

    Args:
        answers: Outputs of a copy of the network whose weights need no gradient.
        image: ``float (C, *S)``, grey levels 0–255, on the network's device.
        baseline: Baseline of the same shape.
        pixels: Positions in the window, in px.
        together: Positions in ``pixels`` of those that share a pass, each of them once; from
            :func:`~lightning_emseg.attribution.points.group_pixels`.
        path: Path of integration.
        reach: Largest distance from the pixel that is kept, along each axis, in px.
    """
    shape = tuple(image.shape[1:])
    flat = flat_index(pixels, shape)
    outputs, baseline_outputs = (compute_answers(answers, window, flat) for window in (image, baseline))
    sums = path_attributions(answers, image, baseline, [flat[list(group)] for group in together], path).numpy()
    fields: dict[int, Field] = {}
    for group, total in zip(together, sums, strict=True):
        positions = np.array([pixels[index] for index in group])
        for index in group:
            box = box_around(pixels[index], reach, shape)
            values = np.where(is_nearest(pixels[index], positions, box, reach), total[box], np.float32(0))
            origin = tuple(part.start for part in box)
            output, before = float(outputs[index]), float(baseline_outputs[index])
            fields[index] = Field(tuple(pixels[index]), origin, values, output, before)
    return [fields[index] for index in range(len(pixels))]


def is_nearest(
    pixel: Sequence[int], positions: NDArray[np.int64], box: tuple[slice, ...], reach: Sequence[int]
) -> NDArray[np.bool_]:
    """Find the pixels of a box that are nearer to ``pixel`` than to any other position, in Chebyshev distance.

    Distances along an axis are in units of the reach along it: in voxels alone, a pixel four sections away would be
    nearer than one's own border thirty px away, although its field reaches over two sections only.

    Args:
        pixel: One of the positions.
        positions: ``(n, D)``.
        box: Part of the window.
        reach: Reach of the fields, one value an axis, in px.

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


def _saves_work(box: tuple[slice, ...], shape: Sequence[int]) -> bool:
    """Tell whether passes over a part are cheaper, though those over the whole window share half of their work."""
    return 4 * _size(box) <= 3 * math.prod(shape)


def _size(box: tuple[slice, ...]) -> int:
    return math.prod(part.stop - part.start for part in box)
