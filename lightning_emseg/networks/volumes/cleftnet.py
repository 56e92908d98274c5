"""CleftNet, and what its ablations put in place of the feature augmentor."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

from data_modules.errors import UserError
from lightning_emseg.networks.volumes.blocks import residual_block
from lightning_emseg.networks.volumes.feature_augmentor import (
    augment,
    augment_down,
    augment_up,
    self_attend,
    self_attend_down,
    self_attend_up,
)
from lightning_emseg.networks.volumes.levels import Triple, VoxelSize
from lightning_emseg.networks.volumes.u_shape import PATCH, WIDTHS, Parts, UShape

Attention = Literal["augmentor", "self", "none"]


def _augmentors(scaled: bool) -> Parts:
    down, bottom, up = (partial(each, scaled=scaled) for each in (augment_down, augment, augment_up))
    return Parts(residual_block, down, bottom, up)


def _self_attentions(scaled: bool) -> Parts:
    down, bottom, up = (partial(each, scaled=scaled) for each in (self_attend_down, self_attend, self_attend_up))
    return Parts(residual_block, down, bottom, up)


def _none(scaled: bool) -> Parts:
    if scaled:
        raise UserError("model.scaled_attention has nothing to scale with model.attention none: leave it out")
    return Parts(residual_block)


ATTENTION: Mapping[Attention, Callable[[bool], Parts]] = {
    "augmentor": _augmentors,
    "self": _self_attentions,
    "none": _none,
}
"""What shrinks, stands at the bottom and grows, by name; called with whether logits of attention are scaled."""


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
        """Build the network.

        Args:
            in_channels: Channels of the volume.
            maps: Number of maps: 2 with the label augmentor, 1 without.
            widths: Channels of the four levels and of the bottom.
            patch: ``(Z, Y, X)`` in voxels that the queries are made for. Other inputs go, with queries interpolated.
            voxel_nm: Size of a voxel, or ``None`` to take voxels for cubes, as the paper does.
            attention: ``augmentor`` with trainable queries, ``self`` with queries from the input (the ablation of
                sec. IV-H), or ``none`` (the ablation "without FA").
            scaled_attention: Whether logits of attention are divided by the root of their channels; the paper does not.

        Raises:
            UserError: As `UShape`, widths of attention that are no multiples of 8, or an unknown ``attention``.
        """
        if attention not in ATTENTION:
            raise UserError(f"CleftNet: attention must be one of {', '.join(ATTENTION)}, not {attention!r}")
        super().__init__(ATTENTION[attention](scaled_attention), in_channels, maps, widths, patch, voxel_nm)
