"""Callbacks may wait only for scores that are made each time that they look."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from data_modules.errors import UserError
from tests.support import tiny
from tests.support.counted_metric import Counted, module_of


@pytest.mark.parametrize(("every", "told"), [(2, "is made every 2 epochs"), (0, "is never made")])
@pytest.mark.parametrize("callback", [EarlyStopping("val/f1", mode="max"), ModelCheckpoint(monitor="val/cells")])
def test_scores_not_made_each_time_are_refused(
    tiny_store: Path, tmp_path: Path, every: int, told: str, callback: pl.Callback
) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[callback], enable_checkpointing=True)
    with pytest.raises(UserError, match=told):
        trainer.fit(module_of(Counted()), tiny.data_of(tiny_store, full_validation_every=every))
    assert trainer.global_step == 0


def test_checkpoint_may_wait_for_whole_mosaic_scores(tiny_store: Path, tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "best", monitor="val/f1", mode="max", every_n_epochs=2)
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[best], enable_checkpointing=True, max_epochs=3)
    trainer.fit(module_of(), tiny.data_of(tiny_store, full_validation_every=2))
    assert best.best_model_score is not None
