"""Building modules from their checkpoints alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from data_modules.errors import UserError
from lightning_emseg import cli
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.restore import restore
from lightning_emseg.modules.smp_model import LinkNet
from lightning_emseg.modules.unet import UNet
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import linear_network, tiny

Change = Callable[[dict[str, Any]], object]


def changed(path: Path, change: Change) -> Path:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    return path


def vanilla(folder: Path) -> Path:
    return linear_network.save(VanillaUNet(base_channels=2, depth=1), folder / "v.ckpt")


@pytest.mark.parametrize(
    "make",
    [
        lambda: VanillaUNet(base_channels=2, depth=1, grey_mean=100, tta="flips"),
        lambda: LinkNet(tiny.ENCODER),
        lambda: UNet(tiny.ENCODER, encoder_weights="gone.pth.tar", freeze_encoder=True),
        lambda: tiny.GreyModule(grey_std=60.0),
    ],
    ids=["vanilla", "linknet", "transfer", "a class of one's own"],
)
def test_a_module_made_in_python_comes_back(make: Callable[[], SegmentationMixin], tmp_path: Path) -> None:
    module = make()
    module.threshold.fill_(0.25)
    module.threshold_source = "chosen by hand"
    # As pretrained norms replace what the arguments say.
    module.grey_mean.fill_(90)
    found = restore(linear_network.save(module, tmp_path / "m.ckpt"))
    assert type(found) is type(module)
    assert not found.training
    assert (float(found.threshold), found.threshold_source) == (0.25, "chosen by hand")
    # Pretrained weights would be fetched, and replaced at once.
    fetched = {"encoder_weights": None} if "encoder_weights" in module.hparams else {}
    assert dict(found.hparams) == {**module.hparams, **fetched}
    image = torch.randint(0, 256, (1, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(found(image), module.eval()(image))


def test_a_run_of_the_command_line_comes_back(tiny_store: Path, tmp_path: Path) -> None:
    model = ["--model", "VanillaUNet", "--model.base_channels", "3", "--model.depth", "1"]
    data = ["--data", "Mosaic", "--data.store", str(tiny_store), "--data.patch_size", "32"]
    more = ["--data.patches_per_epoch", "2", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    where = ["--trainer.default_root_dir", str(tmp_path), "--trainer.enable_progress_bar", "false"]
    cli.main(["fit", *model, *data, *more, *where])
    path = tmp_path / "checkpoints" / "best.ckpt"
    found, saved = restore(path), torch.load(path, weights_only=True)
    assert type(found) is VanillaUNet
    assert found.threshold_source == saved["emseg"]["threshold_source"]
    assert found.state_dict().keys() == saved["state_dict"].keys()
    assert all(torch.equal(value, saved["state_dict"][key]) for key, value in found.state_dict().items())


def test_pretrained_weights_are_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = linear_network.save(LinkNet(tiny.ENCODER), tmp_path / "l.ckpt")
    changed(path, lambda content: content["hyper_parameters"].update(encoder_weights="imagenet"))

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("asked for weights")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    assert restore(path).hparams["encoder_weights"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["emseg"].update(architecture="Mine"), "is of Mine, a class of your own that is not imported"),
        (lambda c: c.pop("emseg"), "does not say which network it is of"),
        (lambda c: c["hyper_parameters"].update(_class_path="no.such.Thing"), "no.such.Thing, which cannot be imp"),
        (lambda c: c["hyper_parameters"].update(_class_path="torch.nn.Linear"), "which is no SegmentationMixin"),
        (lambda c: c["hyper_parameters"].update(colour="red"), "cannot be built .*colour"),
        (lambda c: c["hyper_parameters"].update(base_channels=4), "of another shape"),
    ],
    ids=["unknown name", "no name", "no module", "another class", "unknown argument", "other weights"],
)
def test_what_cannot_be_restored_is_refused(change: Change, message: str, tmp_path: Path) -> None:
    path = changed(vanilla(tmp_path), change)
    with pytest.raises(UserError, match=message) as caught:
        restore(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no checkpoint at .*gone\.ckpt"):
        restore(tmp_path / "gone.ckpt")
