"""How exactly a device computes, whatever the trainer or the user has set around it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single_precision(device: torch.device) -> Iterator[None]:
    """Compute in float32 and nothing less.

    Autocast is off, and so is TensorFloat-32, which NVIDIA's convolutions use by default and whose 10-bit mantissa is
    too coarse for the agreement with captum that exact fields are tested for.
    """
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products
