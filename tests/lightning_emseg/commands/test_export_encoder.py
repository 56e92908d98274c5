"""What `emseg export encoder` writes is CEM500K's format, and starts a U-Net that computes the same features."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18  # type: ignore[import-untyped]

from data_modules.augment.views import TwoViews
from data_modules.errors import UserError
from data_modules.tiles import Tiles
from lightning_emseg.commands import main
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.moco import MoCo
from lightning_emseg.modules.unet import UNet
from tests.support import tiny
from tests.support.tile_sets import make_tile_set


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two steps of a ResNet-18, so that its batch norms have seen something."""
    path = tmp_path_factory.mktemp("export")
    make_tile_set(path / "set")
    data = Tiles(str(path / "set"), batch_size=8, held_out=0.0, views=TwoViews(size=32))
    torch.manual_seed(0)
    trainer = tiny.quiet_trainer(path, max_steps=2)
    trainer.fit(MoCo("resnet18", dim=16, queue_size=16), data)
    trainer.save_checkpoint(path / "last.ckpt")
    return path / "last.ckpt"


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> Path:
    main(["export", "encoder", str(checkpoint), "--out", str(checkpoint.parent / "encoder.pth")])
    return checkpoint.parent / "encoder.pth"


def module_of(checkpoint: Path) -> MoCo:
    module = MoCo("resnet18", dim=16, queue_size=16)
    module.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    return module.eval()


def test_the_file_has_the_released_keys(exported: Path, checkpoint: Path) -> None:
    content = torch.load(exported, weights_only=True)
    assert {"state_dict", "norms"} <= set(content)
    keys = {key.removeprefix("module.encoder_q.") for key in content["state_dict"]}
    assert all(key.startswith("module.encoder_q.") for key in content["state_dict"])
    head = {f"fc.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")}
    assert keys == {key for key in resnet18(num_classes=1).state_dict() if not key.startswith("fc.")} | head
    assert content["state_dict"]["module.encoder_q.conv1.weight"].shape == (64, 1, 7, 7)
    assert content["state_dict"]["module.encoder_q.fc.2.weight"].shape == (16, 512)
    module = module_of(checkpoint)
    assert 255 * content["norms"]["mean"] == pytest.approx(float(module.grey_mean))
    assert 255 * content["norms"]["std"] == pytest.approx(float(module.grey_std))
    assert content["arch"] == "resnet18"


def test_torchvisions_resnet_computes_the_same_from_the_file(exported: Path, checkpoint: Path) -> None:
    content, module = torch.load(exported, weights_only=True), module_of(checkpoint)
    other = resnet18()
    other.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    other.fc = torch.nn.Identity()
    state = {key.removeprefix("module.encoder_q."): value for key, value in content["state_dict"].items()}
    other.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")})
    image = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    normalised = (image / 255 - content["norms"]["mean"]) / content["norms"]["std"]
    with torch.no_grad():
        torch.testing.assert_close(other.eval()(normalised), module(image), rtol=1e-4, atol=1e-4)


UNETS: dict[str, Callable[[str], SegmentationMixin]] = {
    "UNet": lambda file: UNet("resnet18", encoder_weights=file),
    "frozen UNet": lambda file: UNet("resnet18", encoder_weights=file, freeze_encoder=True),
}


@pytest.mark.parametrize("name", UNETS)
def test_unets_load_the_same_features(exported: Path, checkpoint: Path, name: str) -> None:
    module, unet = module_of(checkpoint), UNETS[name](str(exported))
    unet.initialise_weights()
    unet.eval()
    assert torch.equal(unet.grey_mean, module.grey_mean)
    assert torch.equal(unet.grey_std, module.grey_std)
    image = torch.randint(0, 256, (2, 1, 96, 64), dtype=torch.uint8)
    with torch.no_grad():
        encoder = unet.get_submodule("network.encoder")
        last = encoder((image.float() - unet.grey_mean) / unet.grey_std)[-1]
        assert float(last.std()) > 0
        assert torch.equal(last.mean(dim=(2, 3)), module(image))


def test_encoders_that_do_not_fit_are_named(exported: Path) -> None:
    with pytest.raises(
        UserError, match=r"conv1\.weight: \(64, 1, 7, 7\) in the file, \(64, 2, 7, 7\) in the encoder.*; 1 of "
    ):
        UNet("resnet18", encoder_weights=str(exported), in_channels=2).initialise_weights()
    with pytest.raises(UserError, match=r"keys are missing \(layer1\.2\.conv1\.weight"):
        UNet("resnet34", encoder_weights=str(exported)).initialise_weights()
    with pytest.raises(UserError, match=r"absent\.pth\.tar: no such file"):
        UNet("resnet18", encoder_weights="absent.pth.tar").initialise_weights()


def test_other_checkpoints_and_existing_files_are_refused(
    exported: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"encoder\.pth exists already"):
        main(["export", "encoder", str(checkpoint), "--out", str(exported)])
    state = {"state_dict": {"network.x": torch.zeros(1)}, "emseg": {"architecture": "UNet"}}
    torch.save(state, tmp_path / "unet.ckpt")
    with pytest.raises(SystemExit, match="is of UNet and has no encoder_q"):
        main(["export", "encoder", str(tmp_path / "unet.ckpt")])
    main(["export", "encoder", str(checkpoint)])
    assert checkpoint.with_suffix(".pth").is_file()
    assert "last.pth" in capsys.readouterr().out
