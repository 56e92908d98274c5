"""CleftNet."""

from typing import Any, Literal

from pytorch_lightning.utilities import rank_zero_warn
from torch import nn

from data_modules.errors import UserError
from lightning_emseg.evaluation.mosaics import datasets_of
from lightning_emseg.losses.cleft import CleftLoss
from lightning_emseg.losses.weighted_bce import WeightedBCELoss
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.networks import volumes


class CleftNet(SegmentationMixin):
    """CleftNet (Liu and Ji 2021) and its ablations, networks of volumes.

    The first map is the segmentation, which is what is scored and predicted; the second, the distance to the border,
    helps in training alone. Both learn by ``CleftLoss`` by default, a single map by ``WeightedBCELoss``.

    Args:
        patch: ``(Z, Y, X)`` of ``data.patch_size``: for it the queries are made, and from it follows which axes each
            level halves. Tiles of another size go, with interpolated queries.
        voxel_nm: ``(Z, Y, X)`` of a voxel, so that long axes are halved later; voxels pass for cubes without, as in the
            paper.
        attention: Layer that shrinks and grows the maps: feature ``augmentor``, ``self``-attention in place of it, or
            ``none``, with pooling and transposed convolutions.
        scaled_attention: Whether logits of attention are divided by the root of their channels; the paper does not.
        maps: 2 with the label augmentor, 1 without.
        widths: Channels of the levels, finest first, and of the bottom; multiples of 8 where there is attention.
        in_channels: Channels of the volumes.
        loss: Loss of logits and masks.
        kwargs: Further arguments of :class:`~lightning_emseg.modules.mixin.SegmentationMixin`.
    """

    network_axes = 3

    def __init__(
        self,
        patch: tuple[int, int, int] = (8, 256, 256),
        voxel_nm: tuple[float, float, float] | None = None,
        attention: Literal["augmentor", "self", "none"] = "augmentor",
        scaled_attention: bool = False,
        maps: Literal[1, 2] = 2,
        widths: tuple[int, ...] = (32, 64, 96, 128, 160),
        in_channels: int = 1,
        loss: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("classes"):
            raise UserError("CleftNet tells clefts from all else: leave model.classes out")
        network = volumes.CleftNet(in_channels, maps, widths, patch, voxel_nm, attention, scaled_attention)
        chosen = loss or (CleftLoss() if maps == 2 else WeightedBCELoss())
        stride = max(network.stride[1:])
        super().__init__(network, in_channels=in_channels, stride=stride, loss=chosen, **kwargs)
        self.queries_of = tuple(patch) if attention == "augmentor" else None

    def on_train_start(self) -> None:
        """Say where queries are made for other patches than those that come; they are interpolated at every step."""
        super().on_train_start()
        for data in datasets_of(self.trainer.train_dataloader):
            size = getattr(data, "size", None)
            if self.queries_of is not None and size is not None and tuple(size) != self.queries_of:
                rank_zero_warn(
                    f"CleftNet's queries are made for patches of {self.queries_of} voxels, but those of training have "
                    f"{tuple(size)}: pass --model.patch {list(size)}, unless they are to be interpolated"
                )
