"""Networks in which all of a window, or its size, has a say in every answer."""

import torch.nn.functional as F
from torch import Tensor, nn


class CornerAligned(nn.Module):
    """Positions in the small image depend on the size of the window, and its border is seen by nobody."""

    def forward(self, window: Tensor) -> Tensor:
        small = F.avg_pool2d(window, 4)
        large: Tensor = F.interpolate(small, window.shape[2:], mode="bilinear", align_corners=True)
        return large.square()


class Gated(nn.Module):
    """A convolution times a gate that all of the window opens."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, window: Tensor) -> Tensor:
        gate: Tensor = (window.mean(dim=(2, 3), keepdim=True) / 255).sigmoid()
        found: Tensor = self.convolution(window)
        return found * gate
