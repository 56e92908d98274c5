"""The scalar that is attributed: the network's answer at one pixel."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Output = Literal["logit", "probability"]


class GreyNetwork(nn.Module):
    """A network with the normalisation of its grey levels.

    Args:
        network: From normalised images ``(B, C, *S)`` to logits ``(B, 1, *S)``.
        grey_mean: Subtracted from grey levels 0–255.
        grey_std: Divides them.
    """

    def __init__(self, network: nn.Module, grey_mean: float, grey_std: float) -> None:
        super().__init__()
        self.network, self.grey_mean, self.grey_std = network, grey_mean, grey_std

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(B, 1, *S)`` of grey images ``float (B, C, *S)``, levels 0–255."""
        logits: Tensor = self.network((image - self.grey_mean) / self.grey_std)
        return logits


class PixelOutput(nn.Module):
    """A network whose outputs are a flat list, so that an index names a pixel, as captum's ``target`` does.

    Args:
        network: From grey windows ``float (B, C, *S)``, levels 0–255, to logits ``(B, 1, *S)``.
        output: Whether the ``logit`` or the ``probability`` of the foreground is attributed.
    """

    def __init__(self, network: nn.Module, output: Output = "logit") -> None:
        super().__init__()
        self.network = network
        self.answer: nn.Module = nn.Sigmoid() if output == "probability" else nn.Identity()

    def forward(self, window: Tensor) -> Tensor:
        """Answers ``float (B, prod(S))`` at all pixels of windows ``(B, C, *S)``, in C order."""
        answers: Tensor = self.answer(self.network(window)[:, 0].float())
        return answers.flatten(1)


def flat_index(pixels: Sequence[Sequence[int]], shape: Sequence[int]) -> Tensor:
    """Positions ``int64 (P,)`` of pixels in the flattened window.

    Args:
        pixels: P positions in the window, in px.
        shape: Of the window, in px.

    Raises:
        ValueError: if a pixel lies outside the window.

    >>> flat_index([(0, 1), (2, 3)], (4, 5))
    tensor([ 1, 13])
    """
    for pixel in pixels:
        if len(pixel) != len(shape) or any(not 0 <= at < side for at, side in zip(pixel, shape, strict=True)):
            raise ValueError(f"pixel {tuple(pixel)} lies outside a window of {tuple(shape)} px")
    flat = torch.zeros(len(pixels), dtype=torch.int64)
    for axis, side in enumerate(shape):
        flat = flat * side + torch.tensor([pixel[axis] for pixel in pixels], dtype=torch.int64)
    return flat
