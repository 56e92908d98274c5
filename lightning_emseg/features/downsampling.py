"""Networks without their last downsamplings."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.features.encoder import Encoder

_TRIAL_PX = 128
"""Side of the image that shows where maps become smaller: most strides divide it."""


def keep_resolution(encoder: Encoder, stages: int) -> Encoder:
    """Copy an encoder without its last downsamplings, so that maps are 2 ** stages times as large along each side.

    Strides become 1 and weights stay as they are; nothing is dilated, as in the notebook that Conrad and Narayan (2021)
    published ("we eliminated the last four downsampling operations"). The operations of a ResNet are, from the
    last one: stages 4, 3 and 2, the max pooling, and the first convolution, which always stays; those of other networks
    are found by their strides. Transformers usually have none but the first.

    Args:
        encoder: Encoder, which stays as it is.
        stages: Number of operations, 0–4 of a ResNet: the paper takes 1 for nuclei, 2 for mitochondria, 4 for ER.

    Raises:
        UserError: if there are not so many, or the network makes its maps smaller in other ways too.
    """
    if stages == 0:
        return encoder
    height, width = getattr(encoder.network, "takes", None) or (_TRIAL_PX, _TRIAL_PX)
    trial = torch.zeros(1, encoder.channels, height, width, device=encoder.device)
    try:
        network = without_downsamplings(encoder.network, trial, stages)
    except UserError as error:
        raise UserError(f"--drop-stages {stages}: {encoder.name} ({encoder.architecture}) {error}") from error
    return replace(encoder, network=network)


def without_downsamplings(network: nn.Module, trial: Tensor, number: int) -> nn.Module:
    """Copy a network so that its last downsamplings have strides of 1, so that maps are larger.

    A downsampling is all convolutions and poolings with a stride that get maps of one size: a shortcut's convolution
    belongs to the main path's. Weights stay and nothing is dilated. Kernels without padding of their own (as of
    ConvNeXt and DenseNet) see the outermost pixels repeated, so that maps keep their size.

    Args:
        network: Network that maps images ``(B, C, Y, X)`` to maps ``(B, F, y, x)``; stays as it is.
        trial: Images by which downsamplings are found, on the network's device.
        number: Number of the last downsamplings; the first one always stays.

    Raises:
        UserError: if there are fewer, or the network makes its maps smaller in other ways too.
    """
    changed = deepcopy(network)
    steps, before = _downsamplings(changed, trial)
    most = max(0, len(steps) - 1)
    if not 0 <= number <= most:
        can = f"0 to {most} downsamplings" if most else "no downsamplings behind its first layers"
        raise UserError(f"has {can} that can be dropped: give --drop-stages 0{f' to {most}' if most else ''}")
    larger = 1
    for step in steps[len(steps) - number :]:
        larger *= max(_stride(module) for module, _ in step)
        for module, inputs in step:
            _keep_size(module, inputs)
    try:
        _, after = _downsamplings(changed, trial)
    except (RuntimeError, UserError) as error:
        raise UserError(f"does not work without its last {number} downsamplings: give fewer --drop-stages") from error
    # Kernels without padding lose less than a pixel of the smallest map.
    if not all(abs(new - larger * old) <= larger for new, old in zip(after, before, strict=True)):
        raise UserError(
            f"has maps of {tuple(after)} px without its last {number} downsamplings, not {larger} times "
            f"{tuple(before)}, as it makes them smaller in other ways too: give fewer --drop-stages"
        )
    return changed


_Step = Sequence[tuple[nn.Module, Tensor]]


def _downsamplings(network: nn.Module, trial: Tensor) -> tuple[list[_Step], torch.Size]:
    """Modules with what they get, from the first downsampling to the last, and the size of the last maps."""
    found: dict[int, list[tuple[nn.Module, Tensor]]] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        given = inputs[0]
        if given.ndim == 4 and _stride(module) > 1 and output.shape[-1] < given.shape[-1]:
            found.setdefault(given.shape[-1], []).append((module, given))

    leaves = [module for module in network.modules() if hasattr(module, "stride") and not any(module.children())]
    hooks = [module.register_forward_hook(note) for module in leaves]
    try:
        with torch.inference_mode():
            size = network(trial).shape[-2:]
    finally:
        for hook in hooks:
            hook.remove()
    return [found[side] for side in sorted(found, reverse=True)], size


def _stride(module: nn.Module) -> int:
    stride: Any = module.stride
    return max(stride) if isinstance(stride, tuple | list) else int(stride)


def _keep_size(module: nn.Module, inputs: Tensor) -> None:
    stride: Any = module.stride
    module.stride = (1, 1) if isinstance(stride, tuple | list) else 1  # type: ignore[assignment]
    with torch.inference_mode():
        outputs = module.forward(inputs)
    missing = [given - left for given, left in zip(inputs.shape[-2:], outputs.shape[-2:], strict=True)]
    if any(missing):
        rows, columns = missing
        sides = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        module.register_forward_pre_hook(partial(_with_edges, sides))


def _with_edges(sides: tuple[int, ...], module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (F.pad(inputs[0], sides, mode="replicate"), *inputs[1:])
