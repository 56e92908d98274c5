"""Checkpoint files of the trainer, and modules that are frozen on purpose."""

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from data_modules.errors import UserError
from lightning_emseg import cli
from lightning_emseg.core.checkpoints import damage
from lightning_emseg.modules.unet import UNet
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from lightning_emseg.trainer_cli import AtomicCheckpoints, expect_frozen
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


EVAL_MODE = "module(s) in eval mode at the start of training"


def modes(module: nn.Module) -> list[bool]:
    return [part.training for part in module.modules()]


@pytest.mark.parametrize(("freeze_norms", "others", "warned"), [(True, 0, False), (True, 1, True), (False, 0, False)])
def test_only_deliberately_frozen_modules_go_unsaid(
    tiny_store: Path, tmp_path: Path, freeze_norms: bool, others: int, warned: bool
) -> None:
    module = UNet(tiny.ENCODER, freeze_encoder=True, freeze_norms=freeze_norms)
    for part in list(module.network.decoder.modules())[-others:] if others else []:  # type: ignore[union-attr]
        part.eval()
    before = modes(module)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        expect_frozen(module)
        assert modes(module) == before
        tiny.quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(module, tiny.data_of(tiny_store))
        warnings.warn("something else", stacklevel=1)
    said = [str(each.message) for each in caught]
    assert any(EVAL_MODE in message for message in said) is warned
    assert "something else" in said


def test_command_does_not_warn_of_frozen_encoder(tiny_store: Path, tmp_path: Path) -> None:
    frozen = ["--model", "UNet", "--model.encoder", tiny.ENCODER, "--model.freeze_encoder", "true"]
    data = ["--data", "Mosaic", "--data.store", str(tiny_store), "--data.patch_size", "64"]
    more = ["--data.patches_per_epoch", "2", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    where = ["--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.enable_progress_bar", "false"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cli.main(["fit", *frozen, *data, *more, *where, "--trainer.limit_val_batches", "0"])
        warnings.warn("Found 3 module(s) of another kind", stacklevel=1)
    said = [str(each.message) for each in caught]
    assert not any(EVAL_MODE in message for message in said)
    assert "Found 3 module(s) of another kind" in said
