"""Every architecture of volumes learns, predicts and comes back from its checkpoint, through a real Trainer."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from data_modules.errors import UserError
from data_modules.store import MosaicStore, read
from lightning_emseg import cli
from lightning_emseg.losses import CleftLoss, FocalDiceLoss, WeightedBCELoss
from lightning_emseg.modules.cleftnet import CleftNet
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.restore import restore
from lightning_emseg.modules.volume_baselines import AttnUNet3D, ResUNet3D, SegNet3D, UNet3D, VNet
from tests.support import linear_network, tiny

PATCH = (8, 32, 32)
SMALL: dict[str, Any] = {"patch": PATCH, "widths": (8, 8, 16, 24)}
ARCHITECTURES: dict[str, Callable[..., SegmentationMixin]] = {
    "CleftNet": partial(CleftNet, **SMALL),
    "CleftNet thick": partial(CleftNet, voxel_nm=(40.0, 4.0, 4.0), **SMALL),
    "CleftNet self": partial(CleftNet, attention="self", **SMALL),
    "CleftNet without FA": partial(CleftNet, attention="none", **SMALL),
    "CleftNet without LA": partial(CleftNet, maps=1, scaled_attention=True, **SMALL),
    "UNet3D": partial(UNet3D, **SMALL),
    "ResUNet3D": partial(ResUNet3D, **SMALL),
    "AttnUNet3D": partial(AttnUNet3D, **SMALL),
    "VNet": partial(VNet, **SMALL),
    "SegNet3D": partial(SegNet3D, **SMALL),
}


class _WithoutGradient(pl.Callback):
    def __init__(self) -> None:
        self.names: set[str] = set()

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.names |= {name for name, weight in pl_module.named_parameters() if weight.grad is None}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("volumes") / "v.zarr"
    tiny.make_store(path, {"train": ((12, 48, 40),), "val": ((8, 32, 40),), "test": ((10, 40, 36),)})
    return path


def data_of(store: Path, **changes: Any) -> Any:
    return tiny.data_of(store, patch_size=list(PATCH), overlap=0.0, **changes)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture_takes_steps_and_uses_every_weight(name: str, volumes: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = ARCHITECTURES[name]()
    before = {key: value.clone() for key, value in module.named_parameters()}
    unused = _WithoutGradient()
    trainer = tiny.quiet_trainer(tmp_path, max_steps=2, limit_val_batches=1, callbacks=[unused], deterministic=True)
    trainer.fit(module, data_of(volumes))
    assert trainer.global_step == 2
    assert math.isfinite(float(trainer.callback_metrics["train/loss"]))
    assert math.isfinite(float(trainer.callback_metrics["val_tiles/f1"]))
    assert unused.names == set()  # DDP would wait for them in vain
    changed = [key for key, value in module.named_parameters() if not torch.equal(value, before[key])]
    assert len(changed) > 0.9 * len(before)
    with torch.no_grad():
        probability = module.eval().probability(torch.zeros(1, 1, *PATCH, dtype=torch.uint8))
    assert probability.shape == (1, *PATCH)
    assert 0 <= float(probability.min()) <= float(probability.max()) <= 1


def test_queries_for_other_patches_than_those_of_training_are_reported(volumes: Path, tmp_path: Path) -> None:
    trainer = tiny.quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    module = CleftNet(patch=(4, 32, 32), widths=(8, 8, 16, 24))
    with pytest.warns(UserWarning, match=r"made for patches of \(4, 32, 32\) .* pass --model\.patch \[8, 32, 32\]"):
        trainer.fit(module, data_of(volumes))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_module_comes_back_from_its_checkpoint(name: str, tmp_path: Path) -> None:
    module = ARCHITECTURES[name]()
    found = restore(linear_network.save(module, tmp_path / "m.ckpt"))
    assert type(found) is type(module)
    assert dict(found.hparams) == dict(module.hparams)
    # Also of another size than the queries are made for.
    image = torch.randint(0, 256, (1, 1, 16, 32, 16), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(found(image), module.eval()(image))


def test_first_map_is_what_is_predicted() -> None:
    module = CleftNet(**SMALL).eval()
    image = torch.randint(0, 256, (1, 1, *PATCH), dtype=torch.uint8)
    with torch.no_grad():
        logits = module(image)
        assert logits.shape == (1, 2, *PATCH)
        torch.testing.assert_close(module.probability(image), torch.sigmoid(logits[:, 0]))


def test_losses_fit_the_maps() -> None:
    assert isinstance(CleftNet(**SMALL).loss, CleftLoss)
    assert isinstance(CleftNet(maps=1, **SMALL).loss, WeightedBCELoss)
    assert isinstance(CleftNet(maps=1, loss=FocalDiceLoss(), **SMALL).loss, FocalDiceLoss)
    assert isinstance(ResUNet3D(**SMALL).loss, FocalDiceLoss)


def test_several_classes_have_a_map_each() -> None:
    module = UNet3D(classes=["background", "mito", "golgi"], **SMALL).eval()
    with torch.no_grad():
        assert module(torch.zeros(1, 1, *PATCH)).shape == (1, 3, *PATCH)
    with pytest.raises(UserError, match=r"leave model\.classes out"):
        CleftNet(classes=["background", "cleft"], **SMALL)


@pytest.mark.parametrize("name", ["CleftNet", "SegNet3D"])
def test_wrong_sides_are_explained(name: str) -> None:
    module = ARCHITECTURES[name]()
    with pytest.raises(UserError, match=r"multiples of 8 px, not 36: set data\.patch_size"):
        module(torch.zeros(1, 1, 8, 32, 36))
    with pytest.raises(UserError, match="depth, height and width are multiples of 8 × 8 × 8 voxels, but got 4 ×"):
        module(torch.zeros(1, 1, 4, 32, 32))
    with pytest.raises(UserError, match="takes volumes"):
        module(torch.zeros(1, 1, 32, 32))


@pytest.mark.slow
def test_fit_and_predict_from_the_command_line(volumes: Path, tmp_path: Path) -> None:
    model = ["--model", "CleftNet", "--model.patch", "[8,32,32]", "--model.widths", "[8,16]"]
    model += ["--model.voxel_nm", "[40,4,4]", "--model.loss", "CleftLoss"]
    data = ["--data", "Mosaic", "--data.store", str(volumes), "--data.patch_size", "[8,32,32]"]
    data += ["--data.patches_per_epoch", "4", "--data.batch_size", "2", "--data.overlap", "0.0"]
    run = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    run += ["--trainer.default_root_dir", str(tmp_path)]
    cli.main(["fit", *model, *data, *run])
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    found = restore(checkpoint)
    assert type(found) is CleftNet
    assert list(found.hparams["patch"]) == list(PATCH)
    out = tmp_path / "p.zarr"
    cli.main(["predict", *model, *data, *run, "--ckpt_path", str(checkpoint), "--writer.out", str(out)])
    predicted = MosaicStore(out).sample("test/m0")
    assert predicted.image.shape == (10, 40, 36)
    # The first tile lies in a corner of the volume and overlaps no other but by what is snapped to the border.
    volume = MosaicStore(volumes).sample("test/m0")
    corner = [slice(0, side) for side in (2, 8, 4)]
    image = torch.from_numpy(read(volume.image, [slice(0, side) for side in PATCH]))
    with torch.no_grad():
        expected = found.probability(image[None, None])[0].numpy()
    got = read(predicted.image, corner).astype(float)
    assert np.abs(got - 255 * expected[tuple(corner)]).max() <= 0.51
