"""Lightning warns of modules in evaluation mode unless they are frozen on purpose, and of everything else as ever."""

import warnings
from pathlib import Path

import pytest
from torch import nn

from lightning_emseg import cli
from lightning_emseg.frozen_modules import expect_frozen
from lightning_emseg.modules.unet import UNet
from tests.support import tiny

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
