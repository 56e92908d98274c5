"""Hypercolumns: a pixel is classified from all levels of the decoder, not from the last alone."""

from collections.abc import Callable
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

Walk = Callable[[Any, list[Tensor]], list[Tensor]]


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
        self._walk, widths = _decoder_of(network)
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
        return self._walk(smp.decoder, smp.encoder(x))

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


def _decoder_of(network: nn.Module) -> tuple[Walk, list[int]]:
    decoder: Any = getattr(network, "decoder", None)
    if isinstance(decoder, UnetDecoder):
        return _walk_unet, [block.conv2[0].out_channels for block in decoder.blocks]
    if isinstance(decoder, MAnetDecoder):
        return _walk_manet, [block.conv2[0].out_channels for block in decoder.blocks]
    if isinstance(decoder, LinknetDecoder):
        return _walk_linknet, [block.block[-1][0].out_channels for block in decoder.blocks]
    raise UserError(
        f"Hypercolumns: takes smp.Unet, smp.Linknet or smp.MAnet, but got {type(network).__name__}; "
        f"other decoders have no chain of blocks from coarse to fine"
    )


def _walk_unet(decoder: Any, features: list[Tensor]) -> list[Tensor]:
    coarse_to_fine = features[::-1]
    x = decoder.center(coarse_to_fine[0])
    outputs = []
    for block, finer in zip(decoder.blocks, coarse_to_fine[1:], strict=True):
        # The image itself gives the last block its size, but is no skip.
        skip = None if finer is features[0] else finer
        x = block(x, finer.shape[-2], finer.shape[-1], skip_connection=skip)
        outputs.append(x)
    return outputs


def _walk_manet(decoder: Any, features: list[Tensor]) -> list[Tensor]:
    return _walk_chain(decoder, decoder.center(features[-1]), features)


def _walk_linknet(decoder: Any, features: list[Tensor]) -> list[Tensor]:
    return _walk_chain(decoder, features[-1], features)


def _walk_chain(decoder: Any, x: Tensor, features: list[Tensor]) -> list[Tensor]:
    skips: list[Tensor | None] = [*features[-2:0:-1], None]
    outputs = []
    for block, skip in zip(decoder.blocks, skips, strict=True):
        x = block(x, skip)
        outputs.append(x)
    return outputs
