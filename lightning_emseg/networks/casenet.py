"""CASENet: side classifiers after every stage of a residual backbone, fused class by class."""

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.errors import UserError

STAGES = 5


class CASENet(nn.Module):
    """Category-aware edge network (Yu et al. 2017) as Shi et al. 2022 use it for membranes.

    A 1×1 convolution after each of the five stages gives one map per class, upsampled to the input size. Sliced
    concatenation lays the five maps of a class next to each other, and a 1×1 convolution in as many groups as there are
    classes fuses them, so that the logits of a class come from the maps of that class alone. Yu et al. use one shared
    map for stages 1–3 and none for stage 4; Shi et al. one per class for all five, which is what is done here.

    The sides are upsampled with half-pixel centres: corner alignment, which the published U-RISC code uses, would make
    the position of a feature depend on the size of the image, so that overlapping tiles of unequal sizes disagree.

    Any input size goes; the deeper stages see an odd side as rounded up.

    Attributes:
        stride: 1.
        encoder: timm feature extractor; its keys are torchvision's for a ResNet, without ``fc``.
    """

    stride = 1

    def __init__(
        self,
        encoder: str = "resnet152",
        in_channels: int = 1,
        classes: int = 1,
        fusion_batch_norm: bool = False,
    ) -> None:
        """Build the network with random weights; nothing is downloaded.

        The side classifiers start with normal weights of standard deviation 0.01 and zero bias (He-scaled ones on up
        to 2,048 rectified channels would start the logits far from 0), the fusion at 1/5, so that at first the output
        is the mean of the sides (Xie and Tu 2015, HED).

        Args:
            encoder: timm name of a backbone with five stages of strides 2 to 32. ResNet-152 in Shi et al. 2022,
                ResNet-101 in their preprint, ResNet-50 in their published code.
            in_channels: Channels of the image.
            classes: Number of maps K.
            fusion_batch_norm: Batch norm on the concatenated maps before they are fused, as in the published code
                (which normalises every side map before upsampling as well; that is left out).

        Raises:
            UserError: timm does not know ``encoder``, or it does not have five stages.
        """
        super().__init__()
        if not timm.is_model(encoder):
            raise UserError(f"CASENet: timm has no encoder {encoder!r}; try resnet50, resnet101 or resnet152")
        self.encoder: nn.Module = timm.create_model(encoder, features_only=True, pretrained=False, in_chans=in_channels)
        channels: list[int] = self.encoder.feature_info.channels()
        if len(channels) != STAGES:
            raise UserError(
                f"CASENet: needs {STAGES} stages, but encoder {encoder!r} has {len(channels)}; use a ResNet"
            )
        self.classes = classes
        self.sides = nn.ModuleList()
        for width in channels:
            side = nn.Conv2d(width, classes, 1)
            nn.init.normal_(side.weight, std=0.01)
            nn.init.zeros_(side.bias)  # type: ignore[arg-type]
            self.sides.append(side)
        self.norm = nn.BatchNorm2d(STAGES * classes) if fusion_batch_norm else nn.Identity()
        self.fusion = nn.Conv2d(STAGES * classes, classes, 1, groups=classes)
        nn.init.constant_(self.fusion.weight, 1 / STAGES)
        nn.init.zeros_(self.fusion.bias)  # type: ignore[arg-type]

    def side_maps(self, x: Tensor) -> list[Tensor]:
        """Return the logits of the five side classifiers, shallowest first, each ``(B, K, Y, X)``.

        Args:
            x: Float ``(B, C, Y, X)``.
        """
        size = x.shape[-2:]
        return [
            F.interpolate(side(feature), size, mode="bilinear", align_corners=False)
            for side, feature in zip(self.sides, self.encoder(x), strict=True)
        ]

    def fuse(self, sides: list[Tensor]) -> Tensor:
        """Fuse five side maps ``(B, K, Y, X)`` into one, keeping the classes apart.

        Args:
            sides: Maps that `side_maps` returns.

        Returns:
            ``(B, K, Y, X)``; channel k depends on channel k of the sides alone.
        """
        logits: Tensor = self.fusion(self.norm(sliced_concatenation(sides)))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Map an image ``(B, C, Y, X)`` to the fused logits ``(B, K, Y, X)``."""
        return self.fuse(self.side_maps(x))


def sliced_concatenation(sides: list[Tensor]) -> Tensor:
    """Concatenate maps class by class: all sides of class 0, then all of class 1, … (Yu et al. 2017).

    Args:
        sides: S maps ``(B, K, Y, X)``.

    Returns:
        ``(B, K·S, Y, X)`` with side s of class k at channel ``k·S + s``.
    """
    return torch.stack(sides, dim=2).flatten(1, 2)
