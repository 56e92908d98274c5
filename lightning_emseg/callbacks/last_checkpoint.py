"""``last.ckpt`` that is the last."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` after every epoch whose score was not the best.

    Lightning's own callback writes it only together with a best one, so that a killed run would lose all epochs since.
    As a ``Checkpoint`` it has its turn after the trainer's other callbacks, and after a ``ModelCheckpoint`` before it.
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, if nothing was saved of this step."""
        saver = model_checkpoint(trainer)
        if saver is None or saver.save_last is not True:
            return
        if saver._last_global_step_saved != trainer.global_step:
            path = Path(saver.dirpath or ".") / f"{saver.CHECKPOINT_NAME_LAST}{saver.FILE_EXTENSION}"
            trainer.save_checkpoint(path)
            # Otherwise a resumed run without a new best one is saved again at its end, as of one epoch later.
            saver._last_checkpoint_saved = str(path)


def model_checkpoint(trainer: pl.Trainer) -> ModelCheckpoint | None:
    """The first callback that keeps best checkpoints; the trainer's own first may be another kind of ``Checkpoint``."""
    return next((each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)), None)
