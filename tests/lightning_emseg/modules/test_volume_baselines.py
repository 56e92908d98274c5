"""Every architecture of volumes learns, predicts and comes back from its checkpoint, through a real Trainer."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from data_modules.errors import UserError
from lightning_emseg.modules.cleftnet import CleftNet
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.restore import restore
from lightning_emseg.modules.volume_baselines import AttnUNet3D, ResUNet3D, SegNet3D, UNet3D, VNet
from tests.support import linear_network, tiny
from tests.support.volume_networks import PATCH, SMALL, data_of

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
