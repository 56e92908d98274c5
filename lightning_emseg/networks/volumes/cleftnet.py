"""CleftNet, its feature augmentor, and what its ablations put in place of it."""

from collections.abc import Sequence
from math import sqrt
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.networks.volumes.u_shape import PATCH, WIDTHS, Step, Triple, UShape, VoxelSize

WIDTH_STEP = 8
"""Widths of attention are multiples of it: the kernels for GPUs that do without the whole matrix want them so."""


class FeatureAugmentor(nn.Module):
    """Feature augmentor (Liu and Ji 2021, sec. III-A, eqs. 3–5), which can shrink, keep or grow a volume.

    Keys ``K`` and values ``V`` are 1×1×1 convolutions of the input ``M``; ``Z = V · softmax(Kᵀ Q)``, the softmax over
    the keys; the output is a 1×1×1 convolution of ``Z``, back to the channels of ``M``, plus ``Residual(M)``.

    The matrix ``Kᵀ Q`` (at the paper's first level 524,288 keys × 65,536 queries, 128 GiB a sample) is never there as
    a whole: `scaled_dot_product_attention` goes through it block by block, forwards and backwards, as long as keys,
    values and queries are equally wide and their channels lie next to each other in memory; else it falls back to the
    whole matrix without a word. So ``c_k = c_v``, and both are copied into that order here. Memory is then linear in
    the number of voxels, time is still their product.

    Keys and values have no bias: a bias of the keys adds the same to all logits of a query, which the softmax takes
    away again, and that of the values is part of the last convolution's.

    Args:
        channels: Channels ``c`` of the input and the output.
        queries: Module from the input ``(B, c, Z, Y, X)`` and the output's size to queries ``(1 or B, width, *size)``.
        residual: Module from the input to the output's size, with the same channels: max pooling, trilinear
            interpolation or the identity.
        width: Channels of keys, values and queries; ``channels`` by default.
        scaled: Whether logits are divided by the root of ``width``, as in other attention; the paper does not.

    Raises:
        UserError: ``width`` is no multiple of 8.
    """

    def __init__(
        self, channels: int, queries: nn.Module, residual: nn.Module, width: int | None = None, scaled: bool = False
    ) -> None:
        super().__init__()
        width = channels if width is None else width
        if width < 1 or width % WIDTH_STEP:
            raise UserError(f"attention over volumes takes channels in multiples of {WIDTH_STEP}, but got {width}")
        self.queries, self.residual = queries, residual
        self.keys = nn.Conv3d(channels, width, 1, bias=False)
        self.values = nn.Conv3d(channels, width, 1, bias=False)
        self.out = nn.Conv3d(width, channels, 1)
        self.scale = 1 / sqrt(width) if scaled else 1.0

    def attend(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Return ``Z`` of eq. 4, ``(B, width, *size)``.

        Args:
            x: ``(B, channels, Z, Y, X)``.
            size: ``(Z, Y, X)`` of the output.
        """
        queries = _rows(self.queries(x, size)).expand(len(x), -1, -1, -1)
        found = F.scaled_dot_product_attention(queries, _rows(self.keys(x)), _rows(self.values(x)), scale=self.scale)
        return found[:, 0].transpose(1, 2).reshape(len(x), -1, *size)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, channels, Z, Y, X)`` to ``(B, channels, *output size)``."""
        residual: Tensor = self.residual(x)
        augmented: Tensor = self.out(self.attend(x, residual.shape[2:])) + residual
        return augmented


def _rows(maps: Tensor) -> Tensor:
    """``(B, C, Z, Y, X)`` as ``(B, 1, Z·Y·X, C)``, one head, the channels next to each other in memory."""
    return maps.flatten(2).transpose(1, 2).contiguous().unsqueeze(1)


class TrainableQueries(nn.Module):
    """Queries that are weights, shared by all inputs: what clefts have in common (Liu and Ji 2021, sec. III-A).

    They begin as normal noise of variance 1 / ``width``, so that a query is about 1 long and the first logits are of
    the size of the keys' channels (the paper: "randomly initialized").

    They are tied to a size. For an output of another size they are interpolated (trilinear, half-pixel centres), so
    that a query stays at its place relative to the borders of the volume.

    Args:
        width: Channels ``c_q``.
        size: ``(Z, Y, X)`` of the output that the network is built for.
    """

    def __init__(self, width: int, size: Triple) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, width, *size) / sqrt(width))

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Return ``(1, width, *size)``, whatever the input ``x``."""
        if tuple(size) == tuple(self.weight.shape[2:]):
            return self.weight
        return F.interpolate(self.weight, tuple(size), mode="trilinear", align_corners=False)


class InputQueries(nn.Module):
    """Queries that are a linear map of the input, as in self-attention (Liu and Ji 2021, sec. IV-H).

    Args:
        convolution: Convolution from the input to queries of the output's size.
    """

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Return ``(B, width, *size)`` for an input ``x`` of ``(B, c, Z, Y, X)``."""
        queries: Tensor = self.convolution(x)
        return queries


def make_augmentor(
    channels: int,
    step: Step,
    size: Triple,
    factors: Triple = (1, 1, 1),
    attention: Literal["augmentor", "self"] = "augmentor",
    scaled: bool = False,
) -> FeatureAugmentor:
    """Make an augmentor in place of pooling, at the bottom, or in place of a transposed convolution.

    Args:
        channels: Channels of input and output.
        step: Place in the network.
        size: Sides ``(Z, Y, X)`` of the output.
        factors: Factors between input and output.
        attention: ``augmentor`` for trainable queries of that size, ``self`` for queries by a convolution of the input.
        scaled: Whether logits of attention are divided by the root of their channels.
    """
    queries: nn.Module
    if attention == "augmentor":
        queries = TrainableQueries(channels, size)
    else:
        kind = nn.ConvTranspose3d if step == "up" else nn.Conv3d
        queries = InputQueries(kind(channels, channels, factors, stride=factors))
    residual = {
        "down": nn.MaxPool3d(factors),
        "bottom": nn.Identity(),
        "up": nn.Upsample(scale_factor=factors, mode="trilinear"),
    }[step]
    return FeatureAugmentor(channels, queries, residual, scaled=scaled)


Attention = Literal["augmentor", "self", "none"]


class CleftNet(UShape):
    """CleftNet (Liu and Ji 2021, secs. III-C and IV-B): a residual 3D U-Net whose steps are feature augmentors.

    Each of the nine blocks is a convolution and a residual block. An augmentor stands where each of the four poolings
    and each of the four transposed convolutions was, and one behind the bottom's block, which keeps its size (the text
    has "replace … the bottom block" in III-C and a convolution, a residual block and an augmentor in each of the nine
    blocks in IV-B; the latter is done). Augmentors keep the number of channels, so those of the decoder come before the
    concatenation, where the 3D U-Net has its transposed convolutions.

    With the label augmentor there are two maps: the logits of the segmentation and the distance to the border.

    Without augmentors (``attention="none"``) max pooling and transposed convolutions are back in their places and
    nothing follows the bottom's block: the network is then `ResUNet3D` with two maps.

    Args:
        in_channels: Channels of the volume.
        maps: Number of maps: 2 with the label augmentor, 1 without.
        widths: Channels of the four levels and of the bottom.
        patch: Patch ``(Z, Y, X)`` in voxels that the queries are made for. Other inputs go, with queries interpolated.
        voxel_nm: Size of a voxel, or ``None`` to take voxels for cubes, as the paper does.
        attention: ``augmentor`` with trainable queries, ``self`` with queries from the input (the ablation of
            sec. IV-H), or ``none`` (the ablation "without FA").
        scaled_attention: Whether logits of attention are divided by the root of their channels; the paper does not.

    Raises:
        UserError: As `UShape`, widths of attention that are no multiples of 8, or an unknown ``attention``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        maps: int = 2,
        widths: Sequence[int] = WIDTHS,
        patch: Triple = PATCH,
        voxel_nm: VoxelSize | None = None,
        attention: Attention = "augmentor",
        scaled_attention: bool = False,
    ) -> None:
        if attention not in get_args(Attention):
            raise UserError(f"CleftNet: attention must be one of {', '.join(get_args(Attention))}, not {attention!r}")
        if attention == "none" and scaled_attention:
            raise UserError("model.scaled_attention has nothing to scale with model.attention none: leave it out")
        self.attention: Attention = attention
        self.scaled_attention = scaled_attention
        super().__init__(in_channels, maps, widths, patch, voxel_nm)

    def make_step(self, step: Step, channels: int, factors: Triple, size: Triple) -> nn.Module:
        """Make a feature augmentor, unless there is no attention."""
        if self.attention == "none":
            return super().make_step(step, channels, factors, size)
        return make_augmentor(channels, step, size, factors, self.attention, self.scaled_attention)
