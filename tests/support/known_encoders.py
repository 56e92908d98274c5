"""Encoders whose features are known, and files of encoders, for tests of what is measured of them."""

from collections.abc import Callable
from pathlib import Path

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


def save_released(path: Path, network: nn.Module, **extra: object) -> Path:
    """Write a network in the format of CEM500K's release."""
    state = {f"module.encoder_q.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, **extra}, path)
    return path
