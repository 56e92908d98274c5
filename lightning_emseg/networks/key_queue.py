"""The queue of momentum contrast: keys of the latest images, oldest overwritten first."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.errors import UserError


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
