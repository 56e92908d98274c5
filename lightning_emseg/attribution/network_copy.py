"""A copy of a network that may be asked for gradients without its owner noticing."""

import copy
import itertools
from types import FunctionType

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lightning_emseg.attribution.outputs import GreyNetwork

_TOLERANCE = 1e-4
_Convolution = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d
_Norm = nn.BatchNorm2d | nn.BatchNorm3d


def detached_copy(network: nn.Module, grey_mean: float, grey_std: float) -> GreyNetwork:
    """A copy in evaluation mode and single precision, whose weights need no gradient.

    Everything that could touch training (modes, gradients, batch-norm statistics, compilation, inference mode) then
    touches the copy alone. Hooks that are objects are copied; those that are plain functions would report to whoever
    watches the original, and are left out, so that a network must not need them for its answer.

    Args:
        network: From normalised images ``(B, C, *S)`` to logits ``(B, 1, *S)``.
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


def folded(network: nn.Module, example: Tensor) -> nn.Module:
    """Batch norms folded into the convolutions before them, where that changes nothing; a third of the time is theirs.

    Which batch norm follows which convolution is guessed from the order of children and proven on an example.

    Args:
        network: In evaluation mode; it is not changed.
        example: Input ``(B, C, *S)``.

    Returns:
        The folded copy, or ``network`` itself if its output on the example differs by more than 1e-4 of its range.
    """
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(example.device.type, enabled=False):
        candidate = copy.deepcopy(network)
        for parent in list(candidate.modules()):
            children = list(parent.named_children())
            for (name, first), (following, second) in itertools.pairwise(children):
                if isinstance(first, _CONVOLUTIONS) and isinstance(second, _NORMS) and _fits(first, second):
                    setattr(parent, name, fuse_conv_bn_eval(first, second, isinstance(first, _TRANSPOSED)))
                    setattr(parent, following, nn.Identity())
        before, after = network(example), candidate(example)
    span = (before.max() - before.min()).clamp(min=1e-6)
    return candidate if bool((before - after).abs().max() <= _TOLERANCE * span) else network


_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def _fits(first: _Convolution, second: _Norm) -> bool:
    # Torch folds into the output channels of a transposed convolution as if these were in one group.
    in_one_group = first.groups == 1 or not isinstance(first, _TRANSPOSED)
    return in_one_group and first.out_channels == second.num_features and second.track_running_stats
