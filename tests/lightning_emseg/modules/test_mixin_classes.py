"""Architectures of several classes have a map each, learn, and come back with their classes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer

from data_modules.errors import UserError
from data_modules.mosaic import Mosaic
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.restore import restore
from lightning_emseg.modules.smp_model import LinkNet, SmpModel
from lightning_emseg.modules.unet import UNet
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import class_runs, tiny
from tests.support.class_runs import NAMES

Made = Callable[..., SegmentationMixin]
ARCHITECTURES: dict[str, Made] = {
    "unet": partial(UNet, tiny.ENCODER),
    "unet all": partial(UNet, tiny.ENCODER, decoder_attention="scse", hypercolumns=True, scales=[0.5, 1.0]),
    "linknet": partial(LinkNet, tiny.ENCODER),
    "linknet hypercolumns": partial(LinkNet, tiny.ENCODER, hypercolumns=True),
    "vanilla": partial(VanillaUNet, base_channels=4, depth=3),
    "smp fpn": partial(SmpModel, "FPN", tiny.ENCODER),
    "smp scales": partial(SmpModel, "Unet", tiny.ENCODER, scales=[0.5, 1.0]),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("architectures") / "s.zarr"
    class_runs.make_store(path, {f"{split}/m": ((70, 80), (4.0, 4.0)) for split in ("train", "val")})
    return path


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_have_a_map_a_class(name: str, store: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = ARCHITECTURES[name](classes=list(NAMES))
    data = Mosaic(
        str(store), "organelles", classes=list(NAMES), patch_size=64, batch_size=2, patches_per_epoch=2, seed=1
    )
    head = {key: value.clone() for key, value in module.named_parameters() if len(value) == len(NAMES)}
    assert head
    trainer: Trainer = tiny.quiet_trainer(tmp_path, limit_val_batches=0)
    trainer.fit(module, data)
    changed = [key for key, value in module.named_parameters() if key in head and not torch.equal(value, head[key])]
    assert changed
    image = torch.randint(0, 256, (1, 1, 64, 64), dtype=torch.uint8)
    volume = torch.randint(0, 256, (1, 1, 2, 64, 64), dtype=torch.uint8)
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    restored = restore(tmp_path / "c.ckpt")
    assert restored.classes == NAMES
    module.eval()
    with torch.no_grad():
        found = module.probability(image)
        assert found.shape == (1, 3, 64, 64)
        torch.testing.assert_close(found.sum(dim=1), torch.ones(1, 64, 64))
        assert torch.equal(restored.probability(image), found)
        stacked = module.probability(volume)
        for plane in range(2):
            torch.testing.assert_close(stacked[:, :, plane], module.probability(volume[:, :, plane]))


@pytest.mark.parametrize("classes", [["background", "mean"], ["cytoplasm", "background"]])
def test_classes_that_columns_are_called_after_are_refused(classes: list[str]) -> None:
    with pytest.raises(UserError, match="has columns of its own"):
        VanillaUNet(base_channels=4, depth=1, classes=classes)
