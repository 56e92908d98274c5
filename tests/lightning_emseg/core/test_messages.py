"""Short names in configurations and on the command line."""

import gc
from pathlib import Path
from typing import Any

import jsonargparse._typehints
import pytest
import pytorch_lightning as pl
import segmentation_models_pytorch.losses as smp_losses
import torch
import yaml
from torch import nn

from lightning_emseg import cli
from lightning_emseg.core import messages
from lightning_emseg.core.messages import ReadableParser


def test_jsonargparse_asks_this_lookup() -> None:
    told = "jsonargparse resolves short names elsewhere than in 4.47: adapt lightning_emseg.core.messages"
    assert jsonargparse._typehints.resolve_class_path_by_name is messages.resolve_class_path, told
    parser = ReadableParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "loss")
    # Among imported classes, this name has two meanings.
    assert issubclass(smp_losses.DiceLoss, nn.Module)
    assert parser.parse_args(["--loss", "DiceLoss"]).loss.class_path == "lightning_emseg.losses.DiceLoss", told


@pytest.mark.parametrize(
    ("base", "name", "path"),
    [
        (pl.LightningModule, "UNet", "lightning_emseg.modules.UNet"),
        (pl.LightningDataModule, "URISC", "data_modules.URISC"),
        (nn.Module, "FocalDiceLoss", "lightning_emseg.losses.FocalDiceLoss"),
        (nn.Module, "BCEWithLogitsLoss", "torch.nn.BCEWithLogitsLoss"),
        (torch.optim.Optimizer, "AdamW", "torch.optim.AdamW"),
        (torch.optim.lr_scheduler.LRScheduler, "StepLR", "torch.optim.lr_scheduler.StepLR"),
        (pl.Callback, "ModelCheckpoint", "pytorch_lightning.callbacks.ModelCheckpoint"),
        (pl.Callback, "KNNProbe", "lightning_emseg.callbacks.KNNProbe"),
        ((pl.Callback, pl.LightningModule), "MoCo", "lightning_emseg.modules.MoCo"),
        # Full paths stay, and names of another kind are not found.
        (pl.LightningModule, "my.package.UNet", "my.package.UNet"),
        (pl.LightningModule, "Overlays", "Overlays"),
    ],
)
def test_name_becomes_full_path(base: Any, name: str, path: str) -> None:
    assert messages.resolve_class_path(base, name) == path


def test_two_foreign_classes_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="Multiple subclasses with name Embedding"):
        messages.resolve_class_path(nn.Module, "Embedding")


def test_classes_of_the_user_are_not_passed_over() -> None:
    theirs = type("URISC", (pl.LightningDataModule,), {"__module__": "theirs"})
    with pytest.raises(ValueError, match=r"Multiple subclasses with name URISC(.|\n)*theirs\.URISC"):
        messages.resolve_class_path(pl.LightningDataModule, "URISC")
    del theirs
    gc.collect()
    assert messages.resolve_class_path(pl.LightningDataModule, "URISC") == "data_modules.URISC"


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit):
        cli.main(["fit", "--data", "Mosaic", "--data.store", "s.zarr", *words])
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--model", "UNett"), "did you mean UNet, UNet3D or VNet? Otherwise give its full path"),
        (("--model", "UNett"), "no class 'UNett' (in model): did you mean UNet"),
        (("--model", "unet"), "no class 'unet' (in model): did you mean UNet"),
        (("--model", "UNet", "--optimizer", "Adamm"), "no class 'Adamm' (in optimizer): did you mean Adam"),
        (("--model", "Overlays"), "no class 'Overlays' (in model): Overlays is of another kind; `lightning fit"),
        (("--model", "data_modules.tiles.UNet"), "no class 'data_modules.tiles.UNet' (in model): did you mean UNet"),
        (("--model", "lightning_emseg.callbacks.Overlays"), "Overlays"),
        (("--model.help", "UNett"), "did you mean UNet"),
    ],
)
def test_wrong_name_is_told(words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told in refused(capsys, *words)


def test_absent_module_of_the_user_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, "--model", "no_such_nets.MyNet")
    assert told == "error: cannot import no_such_nets (in model): it is not installed and not on PYTHONPATH\n"


@pytest.mark.parametrize("words", [("--model", "own_nets.MyNet"), ("--model", "UNet", "--model.loss", "own_nets.Loss")])
def test_absent_package_names_its_importer(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_nets.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    told = refused(capsys, *words)
    assert told.startswith("error: cannot import own_nets (in ")
    assert "): it needs 'no_such_package', which is not installed and not on PYTHONPATH" in told


def test_help_of_a_named_class(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["fit", "--model.help", "LinkNet"])
    assert ended.value.code == 0
    assert "lightning_emseg.modules.LinkNet" in (shown := capsys.readouterr().out)
    assert "--model.encoder" in shown


def test_names_work_in_files_and_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data.yaml").write_text("class_path: URISC\ninit_args: {store: s.zarr, split: RegionSplit}\n")
    (tmp_path / "e.yaml").write_text("model: {class_path: UNet, init_args: {metrics: [VRand]}}\ndata: data.yaml\n")
    probe = ["--trainer.callbacks+=Overlays", "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor", "x"]
    with pytest.raises(SystemExit):
        cli.main(["fit", "--config", str(tmp_path / "e.yaml"), *probe, "--print_config"])
    found = yaml.safe_load(capsys.readouterr().out)
    assert found["model"]["class_path"] == "lightning_emseg.modules.UNet"
    assert [each["class_path"] for each in found["model"]["init_args"]["metrics"]] == ["lightning_emseg.metrics.VRand"]
    assert found["data"]["init_args"]["split"]["class_path"] == "data_modules.RegionSplit"
    callbacks = [each["class_path"] for each in found["trainer"]["callbacks"]]
    assert callbacks == ["lightning_emseg.callbacks.Overlays", "pytorch_lightning.callbacks.EarlyStopping"]


def test_help_lists_every_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["fit", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for kind, names in messages.SHORT_NAMES.items():
        assert f"Short names of classes: {kind}: {', '.join(names)}" in shown
