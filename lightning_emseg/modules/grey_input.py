"""What stands before and behind a network: grey values normalised, images checked, logits made probabilities."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.inference.planes import orthogonal_mean, plane_by_plane
from lightning_emseg.modules.outputs import outputs_of


class GreyInput(nn.Module):
    """A network that takes grey images as they are stored; the part of a module that needs no Lightning.

    Args:
        network: Maps ``float (B, C, *S)`` to logits ``(B, K, *S)``.
        in_channels: Channels that the network takes.
        stride: Multiple in px that the last two sides of an input must have.
        grey_mean: Subtracted from the grey values 0–255.
        grey_std: Divides them; both travel in the checkpoint.
        classes: Names of what the K maps are of, the background first; ``None`` for one map, of a foreground.
        orthoplane: Whether volumes are predicted along xy, xz and yz planes, and not along xy alone.

    Attributes:
        network_axes: 2 of networks that take images, which see volumes plane by plane, 3 of those that take volumes.
    """

    network_axes: ClassVar[int] = 2
    grey_mean: Tensor
    grey_std: Tensor

    def __init__(
        self,
        network: nn.Module,
        in_channels: int,
        stride: int,
        grey_mean: float,
        grey_std: float,
        classes: Sequence[str] | None = None,
        orthoplane: bool = False,
    ) -> None:
        super().__init__()
        self.outputs, self.orthoplane = outputs_of(classes), orthoplane
        if orthoplane and self.network_axes == 3:
            raise UserError("model.orthoplane is for networks of images: this one takes volumes")
        # 20–30 % faster on CPUs and on GPUs with tensor cores; of volumes it made no difference.
        self.network = network if self.network_axes == 3 else network.to(memory_format=torch.channels_last)
        self.in_channels, self.stride = in_channels, stride
        self.register_buffer("grey_mean", torch.tensor(float(grey_mean)))
        self.register_buffer("grey_std", torch.tensor(float(grey_std)))

    def forward(self, image: Tensor) -> Tensor:
        """Logits of grey images.

        Args:
            image: ``(B, C, *S)``, any type, grey levels 0–255.

        Returns:
            Logits ``(B, K, *S)``.

        Raises:
            UserError: if the channels or sides do not suit the network.
        """
        if image.shape[1] != self.in_channels:
            raise UserError(
                f"the images have {image.shape[1]} channel(s) but model.in_channels is {self.in_channels}: "
                f"set --model.in_channels {image.shape[1]}"
            )
        odd = [side for side in image.shape[-2:] if side % self.stride]
        if odd:
            nearest = max(self.stride, round(odd[0] / self.stride) * self.stride)
            raise UserError(
                f"{type(self).__name__} takes sides that are multiples of {self.stride} px, not {odd[0]}: "
                f"set data.patch_size and data.tile_size to e.g. {nearest}"
            )
        by_planes = image.ndim == 5 and self.network_axes == 2
        return plane_by_plane(self._logits, image) if by_planes else self._logits(image)

    def _logits(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network((image.float() - self.grey_mean) / self.grey_std)
        return logits

    def probability(self, image: Tensor) -> Tensor:
        """Probabilities, 0–1, of grey images ``(B, C, *S)``; NaN where a logit is not finite.

        Returns:
            ``(B, *S)`` of the foreground, or ``(B, K, *S)`` of several classes. A volume of more than one plane is
            predicted in three directions where ``orthoplane`` says so.
        """
        if self.orthoplane and image.ndim == 5 and image.shape[2] > 1:
            return orthogonal_mean(self._in_one_direction, image)
        return self._in_one_direction(image)

    def _in_one_direction(self, image: Tensor) -> Tensor:
        return self.outputs.probability(self(image))
