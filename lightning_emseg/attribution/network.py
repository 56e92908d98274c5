"""Networks that are attributed: detached copies, outputs at single pixels, receptive fields, precision."""

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from data_modules.errors import UserError
from data_modules.geometry import Shape
from lightning_emseg.attribution.windows import SECTION_AXES, Window, per_axis


@contextmanager
def single_precision(device: torch.device) -> Iterator[None]:
    """Compute in float32, without autocast and TensorFloat-32.

    Autocast is off, and so is TensorFloat-32, which NVIDIA's convolutions use by default and whose 10-bit mantissa is
    too coarse for the agreement with captum that exact fields are tested for.
    """
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products


Output = Literal["logit", "probability"]


class GreyNetwork(nn.Module):
    """A network with the normalisation of its grey levels.

    Args:
        network: Network from normalised images ``(B, C, *S)`` to logits ``(B, 1, *S)``.
        grey_mean: Subtracted from grey levels 0–255.
        grey_std: Divides them.
    """

    def __init__(self, network: nn.Module, grey_mean: float, grey_std: float) -> None:
        super().__init__()
        self.network, self.grey_mean, self.grey_std = network, grey_mean, grey_std

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits ``(B, 1, *S)`` of grey images ``float (B, C, *S)``, levels 0–255."""
        logits: Tensor = self.network((image - self.grey_mean) / self.grey_std)
        return logits


def refuse_training(network: nn.Module) -> None:
    """Refuse a network in training mode: dropout and batch statistics would change its answers without notice.

    Raises:
        UserError: if the network or a part of it is in training mode.
    """
    if any(module.training for module in network.modules()):
        raise UserError(
            f"{type(network).__name__} is in training mode; attribution needs evaluation mode: call its eval() first"
        )


class PixelOutput(nn.Module):
    """A network whose outputs are a flat list, so that an index names a pixel, as captum's ``target`` does.

    Args:
        network: Network from grey windows ``float (B, C, *S)``, levels 0–255, to logits ``(B, 1, *S)``.
        output: Whether the ``logit`` or the ``probability`` of the foreground is attributed.
    """

    def __init__(self, network: nn.Module, output: Output = "logit") -> None:
        super().__init__()
        self.network = network
        self.answer: nn.Module = nn.Sigmoid() if output == "probability" else nn.Identity()
        # New modules are in training mode, which `refuse_training` would take for the network's.
        self.training = self.answer.training = network.training

    def forward(self, window: Tensor) -> Tensor:
        """Compute answers ``float (B, prod(S))`` at all pixels of windows ``(B, C, *S)``, in C order."""
        answers: Tensor = self.answer(self.network(window)[:, 0].float())
        return answers.flatten(1)


def flat_index(pixels: Sequence[Sequence[int]], shape: Sequence[int]) -> Tensor:
    """Compute positions ``int64 (P,)`` of pixels in the flattened window.

    Args:
        pixels: P positions in the window, in px.
        shape: Shape of the window, in px.

    Raises:
        ValueError: if a pixel lies outside the window.

    >>> flat_index([(0, 1), (2, 3)], (4, 5))
    tensor([ 1, 13])
    """
    for pixel in pixels:
        if len(pixel) != len(shape) or any(not 0 <= at < side for at, side in zip(pixel, shape, strict=True)):
            raise ValueError(f"pixel {tuple(pixel)} lies outside a window of {tuple(shape)} px")
    flat = torch.zeros(len(pixels), dtype=torch.int64)
    for axis, side in enumerate(shape):
        flat = flat * side + torch.tensor([pixel[axis] for pixel in pixels], dtype=torch.int64)
    return flat


_TOLERANCE = 1e-4
_CELL = 32


def detached_copy(network: nn.Module, grey_mean: float, grey_std: float) -> GreyNetwork:
    """Copy a network in evaluation mode and single precision, without trainable weights.

    Everything that could touch training (modes, gradients, batch-norm statistics, compilation, inference mode) then
    touches the copy alone. Hooks that are objects are copied; those that are plain functions would report to whoever
    watches the original, and are left out, so that a network must not need them for its answer.

    Args:
        network: Network from normalised images ``(B, C, *S)`` to logits ``(B, 1, *S)``.
        grey_mean: Subtracted from grey levels 0–255.
        grey_std: Divides them.
    """
    # A copy made in inference mode would be of tensors that no graph may hold.
    with torch.inference_mode(False), torch.no_grad():
        # A compiled copy would be compiled again, for every size of window.
        copied = copy.deepcopy(getattr(network, "_orig_mod", network)).float()
    for module in copied.modules():
        for hooks in (
            module._forward_pre_hooks,
            module._forward_hooks,
            module._backward_pre_hooks,
            module._backward_hooks,
        ):
            for number in [number for number, hook in hooks.items() if isinstance(hook, FunctionType)]:
                del hooks[number]
    return GreyNetwork(copied, grey_mean, grey_std).eval().requires_grad_(False)


def fold_batch_norms(network: nn.Module, example: Tensor) -> nn.Module:
    """Fold batch norms into the convolutions before them, where that changes nothing; a third of the time is theirs.

    Which batch norm follows which convolution is guessed from the order of children and proven on an example.

    Args:
        network: Network in evaluation mode; it is not changed.
        example: Input ``(B, C, *S)``.

    Returns:
        The folded copy, or ``network`` itself if its output on the example differs by more than 1e-4 of its range.
    """
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(example.device.type, enabled=False):
        candidate = copy.deepcopy(network)
        for parent in list(candidate.modules()):
            children = list(parent.named_children())
            for (name, first), (following, second) in itertools.pairwise(children):
                if not (isinstance(first, _CONVOLUTIONS) and isinstance(second, _NORMS)):
                    continue
                # Torch folds into the output channels of a transposed convolution as if these were in one group.
                in_one_group = first.groups == 1 or not isinstance(first, _TRANSPOSED)
                if in_one_group and first.out_channels == second.num_features and second.track_running_stats:
                    setattr(parent, name, fuse_conv_bn_eval(first, second, isinstance(first, _TRANSPOSED)))
                    setattr(parent, following, nn.Identity())
        before, after = network(example), candidate(example)
    span = (before.max() - before.min()).clamp(min=1e-6)
    return candidate if bool((before - after).abs().max() <= _TOLERANCE * span) else network


_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def foreground_probability(network: nn.Module, window: Window, device: torch.device) -> NDArray[np.uint8]:
    """Compute the quantised probability ``uint8 (*S)`` of a window, 255 for certain foreground."""
    image = torch.from_numpy(window.image).to(device)[None]
    with torch.inference_mode(False), torch.no_grad(), single_precision(device):
        probability = torch.sigmoid(network(image)[0, 0].float())
    found: NDArray[np.uint8] = (probability * 255).round().to(torch.uint8).cpu().numpy()
    return found


def receptive_radius(
    network: nn.Module, shape: Sequence[int], channels: int, stride: int | Sequence[int]
) -> Shape | None:
    """Measure the largest distance along each axis from which a pixel can reach the answer at another one.

    Half of a window is filled with NaN, which passes through every operation that depends on it, whatever the weights.
    The half ends with the first pixel of a cell of the network's coarsest grid, which reaches furthest; cells are taken
    to be of 32 px, or whatever divides that, as networks that pad inside do not name their true stride.

    Args:
        network: Network in evaluation mode, from ``float (B, C, *S)`` to ``(B, 1, *S)``.
        shape: Shape of a window, in px.
        channels: Number of channels of its images.
        stride: Multiple that sides must have, one for all axes or one an axis; how far the influence reaches may depend
            on the position within it.

    Returns:
        Radii in px, rounded up by ``stride``; ``None`` where influence reaches across half of the window along Y or X,
        or such a side has no room for two multiples of ``stride``. Volumes have few sections: where influence crosses
        half of these, or they have no room, the radius along Z is their number, and those of Y and X still hold.
    """
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    radii = []
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        for axis, (side, step) in enumerate(zip(shape, per_axis(stride, len(shape)), strict=True)):
            # Where a cell begins near the middle of the side; 0 if none does.
            coarse = math.lcm(step, _CELL)
            cut = side // 2 // coarse * coarse or side // 2 // step * step
            reaches = []
            for filled in (slice(0, cut + 1), slice(cut - 1, side)) if cut else ():
                window = torch.zeros(1, channels, *shape, device=device)
                window.movedim(axis + 2, 0)[filled] = torch.nan
                reaches.append(_reach(network(window)[0, 0], axis, filled))
            found = [reach for reach in reaches if reach is not None]
            if len(found) == 2:
                radii.append(min(side, max(found) + step))
            elif axis < len(shape) - SECTION_AXES:
                radii.append(side)
            else:
                return None
    return tuple(radii)


def _reach(answer: Tensor, axis: int, filled: slice) -> int | None:
    """Count the rows beyond the filled ones that NaN has entered; ``None`` if it has crossed all of them."""
    rows: list[int] = answer.isnan().movedim(axis, 0).flatten(1).any(dim=1).nonzero().flatten().tolist()
    if not rows or (rows[0] == 0 and rows[-1] == answer.shape[axis] - 1):
        return None
    reach: int = rows[-1] + 1 - filled.stop if filled.start == 0 else filled.start - rows[0]
    return max(0, reach)


def box_around(
    pixel: Sequence[int], radius: Sequence[int], shape: Sequence[int], stride: int | Sequence[int] = 1
) -> tuple[slice, ...]:
    """Cut the part of a window within ``radius`` px of a pixel, grown to multiples of ``stride``, at the border.

    >>> box_around((5, 50), (8, 8), (64, 64), stride=16)
    (slice(0, 16, None), slice(32, 64, None))
    """
    return tuple(
        slice(
            max(0, (at - reach) // step * step),
            min(side, math.ceil((at + reach + 1) / step) * step),
        )
        for at, reach, side, step in zip(pixel, radius, shape, per_axis(stride, len(shape)), strict=True)
    )
