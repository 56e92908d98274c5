"""Wrappers of a network: hypercolumns of its decoder, and several scales of its input."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.linknet.decoder import LinknetDecoder
from segmentation_models_pytorch.decoders.manet.decoder import MAnetDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.networks.sides import check_sides


class Hypercolumns(nn.Module):
    """Hypercolumn head on an encoder–decoder of segmentation_models_pytorch (Hariharan et al. 2015).

    The outputs of all decoder blocks are upsampled to the input size and concatenated; a 1×1 convolution, ReLU and a
    3×3 convolution turn the column of each pixel into logits. The column is never built: a 1×1 convolution commutes
    with bilinear upsampling, so each level is projected at its own size, upsampled, and summed (Hariharan et al. 2015,
    sec. 3), which gives the same numbers. For the default U-Net the column has 496 channels, 2 GB a megapixel.

    smp returns the last block's output alone, so the decoder's loop is walked here; the tests hold it to smp's own.

    Attributes:
        stride: Multiple that the input's sides must have, from the wrapped network.
        network: The wrapped network, its head replaced by the identity (an unused head would stop DDP).
    """

    def __init__(self, network: nn.Module, hidden_channels: int = 64) -> None:
        """Take over a network.

        Args:
            network: ``smp.Unet`` (attention included), ``smp.Linknet`` or ``smp.MAnet`` without a classification
                head. It is changed: its segmentation head is dropped.
            hidden_channels: Channels between the two convolutions of the head.

        Raises:
            UserError: ``network`` is of another kind or has a classification head.
        """
        super().__init__()
        smp: Any = network
        decoder: Any = getattr(network, "decoder", None)
        if isinstance(decoder, UnetDecoder | MAnetDecoder):
            widths = [block.conv2[0].out_channels for block in decoder.blocks]
        elif isinstance(decoder, LinknetDecoder):
            widths = [block.block[-1][0].out_channels for block in decoder.blocks]
        else:
            raise UserError(
                f"Hypercolumns: takes smp.Unet, smp.Linknet or smp.MAnet, but got {type(network).__name__}; "
                f"other decoders have no chain of blocks from coarse to fine"
            )
        if smp.classification_head is not None:
            raise UserError("Hypercolumns: the network has a classification head; leave its aux_params out")
        self.stride: int = smp.encoder.output_stride if smp.requires_divisible_input_shape else 1
        classes: int = smp.segmentation_head[0].out_channels
        smp.segmentation_head = nn.Identity()
        self.network = network
        self.projections = nn.ModuleList(
            nn.Conv2d(width, hidden_channels, 1, bias=level == 0) for level, width in enumerate(widths)
        )
        self.head = nn.Conv2d(hidden_channels, classes, 3, padding=1)

    def levels(self, x: Tensor) -> list[Tensor]:
        """Return the output of every decoder block, coarsest first, each ``(B, width, y, x)``.

        Args:
            x: Float ``(B, C, Y, X)``.
        """
        smp: Any = self.network
        decoder, features = smp.decoder, smp.encoder(x)
        x = features[-1] if isinstance(decoder, LinknetDecoder) else decoder.center(features[-1])
        # The image itself is no skip, but gives the last block of a U-Net its size.
        skips = [*features[-2:0:-1], None]
        outputs = []
        for block, finer, skip in zip(decoder.blocks, features[-2::-1], skips, strict=True):
            if isinstance(decoder, UnetDecoder):
                x = block(x, finer.shape[-2], finer.shape[-1], skip_connection=skip)
            else:
                x = block(x, skip)
            outputs.append(x)
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map an image to logits.

        Args:
            x: Float ``(B, C, Y, X)``, sides multiples of ``stride``.

        Returns:
            ``(B, classes, Y, X)``.

        Raises:
            UserError: A side is no multiple of ``stride``.
        """
        check_sides(x, self.stride, "Hypercolumns")
        projected = [
            F.interpolate(project(level), x.shape[-2:], mode="bilinear", align_corners=False)
            for project, level in zip(self.projections, self.levels(x), strict=True)
        ]
        # Pairwise rather than stacked: a stack of full-size maps would be as large as the column it avoids.
        logits: Tensor = self.head(F.relu(reduce(torch.add, projected)))
        return logits


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
            network: Network from ``(B, C, Y, X)`` to logits ``(B, classes, Y, X)``.
            scales: Factors on the sides of the image, each above 0 and none twice.
            classes: Maps that ``network`` returns.
            stride: Multiple in px that ``network`` needs the sides of its input to be; scaled sides are rounded to
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
