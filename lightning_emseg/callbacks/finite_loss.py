"""Ends training at a loss or gradient that is not a number, and keeps what led to it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import get_total_norm

from data_modules.batch import Batch
from data_modules.errors import UserError
from lightning_emseg.core.distributed import from_all_ranks, from_first_rank
from lightning_emseg.evaluation.mosaics import datasets_of

_NAMED = 4
"""Patches that the message names; the file names all."""
_KEPT = ("image", "second", "mask")
"""Arrays of a batch that are kept, where they are there."""
_SPOILT = (
    "The weights themselves were no longer finite, so an earlier step overflowed: lower the learning rate or set "
    "--trainer.gradient_clip_val 1"
)
_WHOLE = "The weights were not updated with it; look at the images, or lower the learning rate"


@dataclass(frozen=True)
class BadBatch:
    """The batch of a rank that a step was stopped at.

    Attributes:
        loss: Loss of this rank.
        patches: Origin of each patch in the order of the arrays: ``rank``, key of the mosaic as ``sample``,
            ``origin_px``, its first pixel there (negative where it is padded), and ``index`` in the epoch's order.
        arrays: ``image (B, C, *S)`` as the network got it, after augmentation, and ``mask`` or ``second`` view.
        weights_finite: Whether all weights were finite.
        gradients: Names of the weights whose gradient is not finite on any rank, where the loss is finite.
        of_step: Batches since the last step, this one included.
    """

    loss: float
    patches: list[dict[str, Any]]
    arrays: Mapping[str, NDArray[Any]]
    weights_finite: bool
    gradients: tuple[str, ...]
    of_step: int


class FiniteLoss(pl.Callback):
    """Stops all ranks when a training loss or a gradient is NaN or infinite, before the weights are updated.

    The batch is left in the run folder: ``bad-batch.json`` (epoch, step, and sample and origin of every patch) and
    ``bad-batch.npz`` (``image`` as the network got it, with ``mask`` or ``second`` view). The loss is looked at while
    the device computes the gradients, so that a GPU does not wait for it; the gradients when they are there, so that a
    GPU waits for the CPU to start the update. A gradient is the sum over ranks and over the batches of a step: the last
    batch of every rank is kept. Loss scaling (``16-mixed``) makes infinite gradients on purpose and skips their steps;
    these are left to it.
    """

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._loss = torch.zeros(())
        self._bad_loss: _Asked | None = None
        self._of_step = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Remember the batch."""
        self._batch = batch
        self._of_step += 1

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Ask all ranks, without waiting for a GPU."""
        self._loss = loss.detach()
        self._bad_loss = _Asked(trainer, self._loss)

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop, if the loss of any rank is not finite.

        Raises:
            UserError: on every rank, with the step and the origin of the patches.
        """
        if self._bad_loss is not None and self._bad_loss.is_bad():
            self._stop(trainer, None if self._loss.isfinite() else self._bad_batch(trainer, pl_module, ()))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Stop, if a gradient of any rank is not finite.

        Raises:
            UserError: on every rank, with the step, a weight and the origin of the patches.
        """
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            gradients = {name: each.grad for name, each in pl_module.named_parameters() if each.grad is not None}
            # Squares of finite gradients may overflow, too; looking for the largest takes six times as long on a CPU.
            if _Asked(trainer, get_total_norm(gradients.values())).is_bad():
                bad = [name for name, each in gradients.items() if not each.isfinite().all()]
                # Ranks may hold different shares of the gradients (FSDP).
                names = tuple(dict.fromkeys(chain.from_iterable(from_all_ranks(lambda: bad))))
                if names:
                    self._stop(trainer, self._bad_batch(trainer, pl_module, names))
        self._of_step = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Let go of the batch."""
        self._batch = None

    def _stop(self, trainer: pl.Trainer, mine: BadBatch | None) -> NoReturn:
        found = [each for each in from_all_ranks(lambda: mine) if each is not None]
        raise UserError(from_first_rank(lambda: _report(trainer, found)))

    def _bad_batch(self, trainer: pl.Trainer, module: pl.LightningModule, gradients: tuple[str, ...]) -> BadBatch:
        batch = self._batch
        assert batch is not None
        mosaics = datasets_of(trainer.train_dataloader)[0].mosaics
        columns = (batch[name].tolist() for name in ("mosaic", "origin", "index"))
        patches = [
            {"rank": trainer.global_rank, "sample": mosaics[mosaic].key, "origin_px": tuple(origin), "index": index}
            for mosaic, origin, index in zip(*columns, strict=True)
        ]
        return BadBatch(
            loss=float(self._loss),
            patches=patches,
            arrays={name: value.cpu().numpy() for name, value in batch.items() if name in _KEPT},  # type: ignore[attr-defined]
            weights_finite=all(bool(weight.isfinite().all()) for weight in module.parameters()),
            gradients=gradients,
            of_step=self._of_step,
        )


class _Asked:
    """Whether a number is not finite on any rank: asked now, answered when the device has come that far."""

    def __init__(self, trainer: pl.Trainer, number: Tensor) -> None:
        bad = (~number.isfinite()).float()
        if trainer.world_size > 1:
            dist.all_reduce(bad, op=dist.ReduceOp.MAX)
        self._bad = bad.to("cpu", non_blocking=bad.is_cuda)
        self._copied = torch.cuda.current_stream(bad.device).record_event() if bad.is_cuda else None

    def is_bad(self) -> bool:
        if self._copied is not None:
            self._copied.synchronize()
        return bool(self._bad.item())


def _report(trainer: pl.Trainer, batches: list[BadBatch]) -> str:
    """Write the files and say what has happened; called on rank 0."""
    weights_finite = all(batch.weights_finite for batch in batches)
    patches = [patch for batch in batches for patch in batch.patches]
    gradients = batches[0].gradients
    record = {
        "epoch": trainer.current_epoch,
        "step": trainer.global_step,
        # JSON knows neither NaN nor infinity.
        "loss": [str(batch.loss) for batch in batches],
        "weights_finite": weights_finite,
        "gradients": gradients,
        "patches": patches,
    }
    folder = Path(trainer.default_root_dir)
    kept = f"The batch is kept in {folder / 'bad-batch.json'} and bad-batch.npz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {
            name: np.concatenate([batch.arrays[name] for batch in batches]) for name in batches[0].arrays
        }
        np.savez_compressed(folder / "bad-batch.npz", **arrays)
        (folder / "bad-batch.json").write_text(json.dumps(record, indent=2) + "\n")
    except OSError as error:
        kept = f"The batch could not be kept in {folder} ({error.strerror})"
    what = f"training loss is {batches[0].loss}"
    if gradients:
        more = f" and {len(gradients) - 1} more weights" if len(gradients) > 1 else ""
        what = f"gradient of {gradients[0]}{more} is NaN or infinite, though the loss is {batches[0].loss},"
    named = ", ".join(f"{patch['sample']} at {patch['origin_px']}" for patch in patches[:_NAMED])
    more = f" and {len(patches) - _NAMED} more" if len(patches) > _NAMED else ""
    if gradients and batches[0].of_step > 1:
        more += f", the last of the {batches[0].of_step} batches whose gradients this step adds up"
    return (
        f"the {what} in epoch {trainer.current_epoch} at step {trainer.global_step}, for patches of {named}{more}. "
        f"{kept}. {_WHOLE if weights_finite else _SPOILT} (in 16-bit precision, try bf16-mixed)"
    )
