"""The trainer saves and resumes through atomic checkpoints."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from data_modules.errors import UserError
from lightning_emseg.checkpoints.atomic import AtomicCheckpoints
from lightning_emseg.checkpoints.files import damage
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import tiny


@pytest.fixture(scope="module")
def resumable(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resumable") / "checkpoints" / "last.ckpt"
    trainer = tiny.quiet_trainer(path.parent, limit_val_batches=0, plugins=[AtomicCheckpoints()])
    trainer.fit(VanillaUNet(base_channels=4, depth=2), tiny.data_of(tiny_store))
    trainer.save_checkpoint(path)
    return path


def _resume(path: Path, store: Path, **options: Any) -> int:
    trainer = tiny.quiet_trainer(path.parent, max_epochs=2, limit_val_batches=0, plugins=[AtomicCheckpoints()])
    trainer.fit(VanillaUNet(base_channels=4, depth=2), tiny.data_of(store), ckpt_path=path, **options)
    return trainer.global_step


def test_trainer_saves_and_resumes_through_it(resumable: Path, tiny_store: Path) -> None:
    assert damage(resumable) is None
    # Two steps an epoch.
    assert torch.load(resumable, weights_only=True)["global_step"] == 2
    assert _resume(resumable, tiny_store) == 4


def test_trainer_refuses_a_damaged_checkpoint_by_name(resumable: Path, tiny_store: Path, tmp_path: Path) -> None:
    cut = tmp_path / "last.ckpt"
    cut.write_bytes(resumable.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"last\.ckpt cannot be read as a checkpoint"):
        _resume(cut, tiny_store)


def test_trainer_runs_no_code_even_on_request(resumable: Path, tiny_store: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({**torch.load(resumable, weights_only=True), "evil": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match=r"evil\.ckpt cannot be read .*would run or make `posix.mkdir`") as caught:
        _resume(tmp_path / "evil.ckpt", tiny_store, weights_only=False)
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
