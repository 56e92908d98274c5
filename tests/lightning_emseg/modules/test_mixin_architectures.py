"""Every architecture learns, through a real Trainer."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from data_modules.errors import UserError
from lightning_emseg.modules.casenet import CASENet
from lightning_emseg.modules.linknet import LinkNet
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.smp_model import SmpModel
from lightning_emseg.modules.unet import UNet
from lightning_emseg.modules.unet_transfer import UNetTransfer
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import tiny

Made = Callable[[], SegmentationMixin]
ARCHITECTURES: dict[str, Made] = {
    "unet": partial(UNet, tiny.ENCODER),
    "unet scse": partial(UNet, tiny.ENCODER, decoder_attention="scse"),
    "unet hypercolumns": partial(UNet, tiny.ENCODER, hypercolumns=True),
    "unet scales": partial(UNet, tiny.ENCODER, scales=[0.5, 1.0]),
    "unet all": partial(UNet, tiny.ENCODER, decoder_attention="scse", hypercolumns=True, scales=[0.5, 1.0]),
    "linknet": partial(LinkNet, tiny.ENCODER),
    "linknet hypercolumns": partial(LinkNet, tiny.ENCODER, hypercolumns=True),
    "casenet": partial(CASENet, tiny.TIMM_ENCODER),
    "casenet batch norm": partial(CASENet, tiny.TIMM_ENCODER, fusion_batch_norm=True),
    "vanilla": partial(VanillaUNet, base_channels=4, depth=3),
    "smp fpn": partial(SmpModel, "FPN", tiny.ENCODER),
    "smp scales": partial(SmpModel, "UnetPlusPlus", tiny.ENCODER, scales=[0.5, 1.0]),
}


@pytest.mark.parametrize("kind", [UNet, LinkNet, UNetTransfer])
def test_unknown_encoders_are_refused_by_name(kind: Callable[..., SegmentationMixin]) -> None:
    with pytest.raises(UserError, match=r"model\.encoder 'resnet5o'"):
        kind(encoder="resnet5o")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture_takes_steps(name: str, tiny_store: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = ARCHITECTURES[name]()
    before = {key: value.clone() for key, value in module.named_parameters()}
    losses = tiny.Losses()
    # Two, because timm's residual branches begin at zero and hide their convolutions from the first gradient.
    trainer = tiny.quiet_trainer(tmp_path, max_steps=2, limit_val_batches=0, callbacks=[losses])
    trainer.fit(module, tiny.data_of(tiny_store))
    assert len(losses.values) == 2
    assert all(math.isfinite(value) for value in losses.values)
    changed = [key for key, value in module.named_parameters() if not torch.equal(value, before[key])]
    assert len(changed) > 0.9 * len(before)
    with torch.no_grad():
        probability = module.eval().probability(torch.zeros(1, 1, 64, 64, dtype=torch.uint8))
    assert probability.shape == (1, 64, 64)
    assert 0 <= float(probability.min()) <= float(probability.max()) <= 1
