"""Ends training at a loss that is not a number, and keeps what led to it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from data_modules.batch import Batch
from data_modules.errors import UserError
from lightning_emseg.distributed import from_all_ranks, from_first_rank
from lightning_emseg.modules.evaluation import datasets_of

_NAMED = 4
"""Patches that the message names; the file names all."""


@dataclass(frozen=True)
class BadPatch:
    """Where a patch of the batch came from.

    Attributes:
        rank: Process that had it.
        sample: Key of its mosaic.
        origin_px: Its first pixel in the mosaic; negative where it is padded.
        index: In the global order of the epoch.
    """

    rank: int
    sample: str
    origin_px: tuple[int, ...]
    index: int


@dataclass(frozen=True)
class BadBatch:
    """The batch of a rank whose loss is not finite.

    Attributes:
        loss: Infinite or not a number.
        patches: In the order of the arrays.
        image: ``(B, C, *S)`` as the network got it, after augmentation.
        mask: ``uint8 (B, *S)``.
        weights_finite: Whether all weights were finite.
    """

    loss: float
    patches: tuple[BadPatch, ...]
    image: NDArray[Any]
    mask: NDArray[Any]
    weights_finite: bool


class FiniteLoss(pl.Callback):
    """Stops all ranks when the training loss of any of them is NaN or infinite, before the weights are updated.

    The batch is left in the run folder: ``bad-batch.json`` (epoch, step, and sample and origin of every patch) and
    ``bad-batch.npz`` (``image`` as the network got it, and ``mask``). The loss is looked at while the device computes
    the gradients, so that a GPU does not wait for it.
    """

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._loss = self._bad = torch.zeros(())
        self._copied: torch.cuda.Event | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Remember the batch."""
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Ask all ranks, without waiting for a GPU."""
        self._loss = loss.detach()
        bad = (~self._loss.isfinite()).float()
        if trainer.world_size > 1:
            dist.all_reduce(bad, op=dist.ReduceOp.MAX)
        self._bad = bad.to("cpu", non_blocking=bad.is_cuda)
        self._copied = torch.cuda.current_stream(bad.device).record_event() if bad.is_cuda else None

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop, if any rank has to.

        Raises:
            UserError: on every rank, with the step and the origin of the patches.
        """
        if self._copied is not None:
            self._copied.synchronize()
        if self._bad.item():
            found = [each for each in from_all_ranks(lambda: self._bad_batch(trainer, pl_module)) if each is not None]
            raise UserError(from_first_rank(lambda: _report(trainer, found)))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Let go of the batch."""
        self._batch = None

    def _bad_batch(self, trainer: pl.Trainer, module: pl.LightningModule) -> BadBatch | None:
        if self._loss.isfinite():
            return None
        batch = self._batch
        assert batch is not None
        mosaics = datasets_of(trainer.train_dataloader)[0].mosaics
        columns = (batch[name].tolist() for name in ("mosaic", "origin", "index"))
        patches = tuple(
            BadPatch(trainer.global_rank, mosaics[mosaic].key, tuple(origin), index)
            for mosaic, origin, index in zip(*columns, strict=True)
        )
        return BadBatch(
            loss=float(self._loss),
            patches=patches,
            image=batch["image"].cpu().numpy(),
            mask=batch["mask"].cpu().numpy(),
            weights_finite=all(bool(weight.isfinite().all()) for weight in module.parameters()),
        )


def _report(trainer: pl.Trainer, batches: list[BadBatch]) -> str:
    """Write the files and say what has happened; called on rank 0."""
    folder = Path(trainer.default_root_dir)
    path = folder / "bad-batch.json"
    patches = [patch for batch in batches for patch in batch.patches]
    record = {
        "epoch": trainer.current_epoch,
        "step": trainer.global_step,
        # JSON knows neither NaN nor infinity.
        "loss": [str(batch.loss) for batch in batches],
        "weights_finite": all(batch.weights_finite for batch in batches),
        "patches": [asdict(patch) for patch in patches],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        image, mask = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("image", "mask"))
        np.savez_compressed(folder / "bad-batch.npz", image=image, mask=mask)
        path.write_text(json.dumps(record, indent=2) + "\n")
        kept = f"The batch is kept in {path} and bad-batch.npz"
    except OSError as error:
        kept = f"The batch could not be kept in {folder} ({error.strerror})"
    named = ", ".join(f"{patch.sample} at {patch.origin_px}" for patch in patches[:_NAMED])
    more = f" and {len(patches) - _NAMED} more" if len(patches) > _NAMED else ""
    state = (
        "The weights were not updated with it; look at the images, or lower the learning rate"
        if record["weights_finite"]
        else "The weights themselves were no longer finite, so an earlier step overflowed: lower the learning rate or "
        "set --trainer.gradient_clip_val 1"
    )
    return (
        f"the training loss is {batches[0].loss} in epoch {trainer.current_epoch} at step {trainer.global_step}, for "
        f"patches of {named}{more}. {kept}. {state} (with --trainer.precision 16-mixed, try bf16-mixed)"
    )
