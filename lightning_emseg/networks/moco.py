"""Encoder and key queue of momentum contrast."""

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.errors import UserError


class Embedding(nn.Module):
    """Encoder, global pooling and a head of two layers (Chen et al. 2020, MoCo v2).

    Args:
        encoder: Name in timm, e.g. ``resnet50``.
        dim: Length of an embedding.

    Attributes:
        backbone: Of timm, without classifier; ResNets have torchvision's keys.
        fc: The head, which MoCo puts in the classifier's place.

    Raises:
        UserError: if timm has no such encoder.
    """

    def __init__(self, encoder: str, dim: int) -> None:
        super().__init__()
        try:
            backbone = timm.create_model(encoder, pretrained=False, in_chans=1, num_classes=0)
        except RuntimeError as error:
            raise UserError(f"model.encoder {encoder!r}: {error}; `timm.list_models()` has all names") from None
        # Some encoders widen their features once more behind the pooling.
        width = int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)
        # 20–30 % faster on CPUs and on GPUs with tensor cores.
        self.backbone: nn.Module = backbone.to(memory_format=torch.channels_last)
        self.fc = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dim))

    def forward(self, image: Tensor) -> Tensor:
        """Embeddings ``(B, dim)`` of length 1 of normalised images ``float (B, 1, Y, X)``."""
        found: Tensor = self.fc(self.backbone(image))
        # At least single precision, which autocast may have left.
        return F.normalize(found.to(torch.promote_types(found.dtype, torch.float32)), dim=1)


class KeyQueue(nn.Module):
    """Keys of the latest batches (He et al. 2020, section 3.2); part of checkpoints.

    It begins with random directions, which are negatives as good as any until they are overwritten.

    Args:
        dim: Length D of a key.
        size: Number K of keys.
    """

    keys: Tensor
    position: Tensor

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("keys", F.normalize(torch.randn(dim, size), dim=0))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    def enqueue(self, keys: Tensor) -> None:
        """Overwrite the oldest keys; nothing waits for the device.

        Args:
            keys: ``(B, D)``, the same on all ranks.

        Raises:
            UserError: if B does not divide the size, so that keys would have unequal ages.
        """
        check_divides(len(keys), self.size)
        places = self.position + torch.arange(len(keys), device=self.keys.device)
        self.keys.index_copy_(1, places, keys.detach().to(self.keys.dtype).T)
        self.position.copy_((self.position + len(keys)) % self.size)


def check_divides(batch: int, size: int) -> None:
    """Refuse a global batch that does not divide the queue.

    Raises:
        UserError: naming both numbers, and sizes that fit.
    """
    if size % batch:
        below, above = size // batch * batch, -(-size // batch) * batch
        fitting = f"{below} or {above}" if below else f"{above}"
        raise UserError(
            f"a queue of {size} keys cannot be filled by batches of {batch} (data.batch_size × processes), which does "
            f"not divide it: set --model.queue_size {fitting}, or another batch size"
        )
