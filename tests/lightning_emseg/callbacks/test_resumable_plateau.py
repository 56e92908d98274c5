"""Learning rates in checkpoints of runs whose scheduler follows a score."""

from functools import partial
from pathlib import Path

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import ReduceLROnPlateau

from lightning_emseg.callbacks import ResumablePlateau
from tests.support import tiny


def test_checkpoints_have_the_next_epochs_rate(tiny_store: Path, tmp_path: Path) -> None:
    # Steps are too small to change a score, so every epoch but the first halves the rate.
    rate = 2.0**-60
    module = tiny.GreyModule(
        optimizer=partial(torch.optim.SGD, lr=rate),
        lr_scheduler=partial(ReduceLROnPlateau, monitor="val_tiles/f1", mode="max", patience=0, factor=0.5, eps=0.0),
    )
    saver = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    trainer = tiny.quiet_trainer(
        tmp_path, callbacks=[ResumablePlateau(), saver], enable_checkpointing=True, max_epochs=3, limit_val_batches=1
    )
    trainer.fit(module, tiny.data_of(tiny_store, full_validation_every=0))
    assert trainer.optimizers[0].param_groups[0]["lr"] == rate / 4
    for epoch in range(3):
        saved = torch.load(tmp_path / f"epoch={epoch}.ckpt", weights_only=False)
        assert saved["optimizer_states"][0]["param_groups"][0]["lr"] == rate / 2**epoch
        assert saved["lr_schedulers"][0]["last_epoch"] == epoch + 1
        assert saved["lr_schedulers"][0]["_last_lr"] == [rate / 2**epoch]
