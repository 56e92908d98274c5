"""What Lightning wants to know of optimiser and scheduler."""

from collections.abc import Iterable
from typing import Literal

from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn


def configured(
    parameters: Iterable[nn.Parameter],
    make_optimizer: OptimizerCallable,
    make_scheduler: LRSchedulerCallable | None,
    interval: Literal["epoch", "step"],
) -> OptimizerLRScheduler:
    """Optimiser and scheduler over the parameters that are trained.

    Args:
        parameters: Of the module; those without a gradient are left out.
        make_optimizer: Makes the optimiser.
        make_scheduler: Makes the scheduler of an optimiser; ``None`` for a constant rate.
        interval: Whether the scheduler steps after every epoch or every step; one that waits for a score to rise
            watches ``val_tiles/f1``.
    """
    optimizer = make_optimizer([weight for weight in parameters if weight.requires_grad])
    if make_scheduler is None:
        return optimizer
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": make_scheduler(optimizer), "interval": interval, "monitor": "val_tiles/f1"},
    }
