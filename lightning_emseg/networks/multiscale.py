"""One network on several sizes of the image, and an attention that says where to believe which."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.networks.sides import check_sides


class MultiScaleInput(nn.Module):
    """Multi-scale input with learned attention over the scales (Chen et al. 2016, "Attention to Scale").

    The same weights see the image at every scale; the logits come back to full size and are averaged with weights that
    a small network gives each scale at each pixel and a softmax makes sum to 1 (their eqs. 1–2). Chen et al. compute
    the weights from the network's features; a network wrapped here shows its logits alone, so they are computed from
    the logits of all scales. They start equal, which is the average pooling that Chen et al. compare with.

    Attributes:
        stride: Multiple that the input's sides must have.
        network: The wrapped network.
    """

    def __init__(
        self,
        network: nn.Module,
        scales: Sequence[float] = (0.5, 1.0),
        classes: int = 1,
        stride: int = 32,
        hidden_channels: int = 16,
    ) -> None:
        """Wrap a network.

        Args:
            network: From ``(B, C, Y, X)`` to logits ``(B, classes, Y, X)``.
            scales: Factors on the sides of the image, each above 0 and none twice.
            classes: Maps that ``network`` returns.
            stride: What ``network`` needs the sides of its input to be multiples of; scaled sides are rounded to
                it, halves up.
            hidden_channels: Channels of the attention's hidden layer.

        Raises:
            UserError: ``scales`` are empty, repeated or not positive, or ``stride`` does not suit ``network``.
        """
        super().__init__()
        if not scales or min(scales) <= 0 or len(set(scales)) < len(scales):
            raise UserError(f"MultiScaleInput: scales must be positive and differ, but are {list(scales)}")
        needed = getattr(network, "stride", 1)
        if stride < 1 or stride % needed:
            raise UserError(f"MultiScaleInput: stride must be a multiple of the network's {needed}, but is {stride}")
        self.network = network
        self.scales = tuple(scales)
        self.stride = stride
        last = nn.Conv2d(hidden_channels, len(self.scales), 1)
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)
        self.attention = nn.Sequential(
            nn.Conv2d(len(self.scales) * classes, hidden_channels, 3, padding=1), nn.ReLU(inplace=True), last
        )

    def logits_by_scale(self, x: Tensor) -> list[Tensor]:
        """Return the network's logits at every scale, back at full size, each ``(B, classes, Y, X)``.

        Args:
            x: Float ``(B, C, Y, X)``.
        """
        size = x.shape[-2:]
        logits = []
        for scale in self.scales:
            height, width = (max(self.stride, int(side * scale / self.stride + 0.5) * self.stride) for side in size)
            # Antialiasing, as plain bilinear shrinking would keep the noise of every other pixel.
            scaled = F.interpolate(x, (height, width), mode="bilinear", antialias=True) if scale != 1 else x
            out = self.network(scaled)
            logits.append(F.interpolate(out, size, mode="bilinear") if scale != 1 else out)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Map an image to logits.

        Args:
            x: Float ``(B, C, Y, X)``, sides multiples of ``stride``.

        Returns:
            ``(B, classes, Y, X)``, at every pixel a convex combination of the scales' logits.

        Raises:
            UserError: A side is no multiple of ``stride``.
        """
        check_sides(x, self.stride, "MultiScaleInput")
        logits = self.logits_by_scale(x)
        weights = self.attention(torch.cat(logits, dim=1)).softmax(dim=1)
        fused: Tensor = (torch.stack(logits, dim=1) * weights.unsqueeze(2)).sum(dim=1)
        return fused
