"""Encoders whose features are known, for tests of what is measured of them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_emseg.features.encoder import Encoder


class Known(nn.Module):
    """A network that computes its maps by a function."""

    def __init__(self, maps: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.make = maps

    def forward(self, normalised: Tensor) -> Tensor:
        return self.make(normalised)


def encoder_of(maps: Callable[[Tensor], Tensor], mean: float = 0.0, std: float = 1.0) -> Encoder:
    """Maps ``(B, F, y, x)`` of ``(grey − mean) / std``, ``(B, 1, Y, X)``."""
    return Encoder("known", "a function", "none", Known(maps).eval(), (mean,), (std,), "the test")


def stacked(*features: Tensor) -> Tensor:
    """One value ``(B,)`` a feature as maps of a single pixel."""
    return torch.stack(features, dim=1)[:, :, None, None]
