"""Callbacks that watch scores of whole mosaics need these whenever they look."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from data_modules.errors import UserError


def check_monitors(trainer: pl.Trainer) -> None:
    """Refuse what Lightning would refuse after the first epoch, which may be hours later.

    Raises:
        UserError: if a callback monitors ``val/…`` at epochs without a validation of whole mosaics.
    """
    every = getattr(getattr(trainer, "datamodule", None), "full_validation_every", None)
    # Lightning's connector puts them there, where type checkers do not see it.
    callbacks: list[pl.Callback] = vars(trainer)["callbacks"]
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None) or ""
        # Only checkpoints can look at every n-th epoch alone.
        looks_at = getattr(callback, "_every_n_epochs", 1)
        if every is None or not monitor.startswith("val/") or (every and looks_at % every == 0):
            continue
        name = type(callback).__name__
        remedy = f"set data.full_validation_every to {looks_at}, or monitor val_tiles/f1, which every epoch has"
        if every and hasattr(callback, "_every_n_epochs"):
            remedy += f", or set the checkpoint's every_n_epochs to {every}"
        raise UserError(
            f"{name} monitors {monitor}, which is made every {every} epochs, and looks at it every {looks_at}: {remedy}"
            if every
            else f"{name} monitors {monitor}, but data.full_validation_every is 0, so that it is never made: {remedy}"
        )


def refuse_tile_monitors(trainer: pl.Trainer) -> None:
    """Refuse callbacks that wait for scores of a segmentation, where nothing is segmented.

    Raises:
        UserError: if a callback monitors ``val_tiles/…``, as the command line's checkpoints do by default.
    """
    callbacks: list[pl.Callback] = vars(trainer)["callbacks"]
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None) or ""
        if monitor.startswith("val_tiles/"):
            kind = type(callback).__name__
            setting = "--checkpoint.monitor" if isinstance(callback, ModelCheckpoint) else f"the monitor of {kind}"
            raise UserError(f"nothing here makes {monitor}, which {kind} monitors: set {setting} to null")
