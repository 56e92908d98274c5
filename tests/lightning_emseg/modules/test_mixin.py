"""Input, monitors, checkpoints and compilation of all architectures."""

import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from data_modules.errors import UserError
from lightning_emseg.modules.casenet import CASENet
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.smp_model import LinkNet, SmpModel
from lightning_emseg.modules.unet import UNet
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import tiny
from tests.support.counted_metric import Counted, module_of


def test_grey_values_are_normalised_by_the_module() -> None:
    module = tiny.GreyModule(grey_mean=100.0, grey_std=20.0)
    image = torch.tensor([[[[80, 100, 120]]]], dtype=torch.uint8)
    assert module(image).flatten().tolist() == [tiny.SLOPE, 0.0, -tiny.SLOPE]


def test_wrong_channels_and_sides_are_explained() -> None:
    module = LinkNet(tiny.ENCODER, in_channels=3)
    with pytest.raises(UserError, match=r"have 1 channel\(s\) .* --model.in_channels 1"):
        module(torch.zeros(1, 1, 64, 64))
    with pytest.raises(UserError, match=r"multiples of 32 px, not 100: .* e\.g\. 96"):
        module(torch.zeros(1, 3, 64, 100))


def test_probability_is_the_sigmoid_and_has_its_gradient() -> None:
    module = tiny.GreyModule()
    image = torch.arange(256.0).reshape(1, 1, 16, 16).requires_grad_()
    (gradient,) = torch.autograd.grad(module.probability(image).sum(), image)
    logits = -tiny.SLOPE * (np.arange(256.0) - 127.5) / 127.5
    expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(module.probability(image).detach().numpy().ravel(), expected, rtol=1e-5)
    slope = -tiny.SLOPE / 127.5 * expected * (1 - expected)
    np.testing.assert_allclose(gradient.numpy().ravel(), slope, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize(("every", "told"), [(2, "is made every 2 epochs"), (0, "is never made")])
@pytest.mark.parametrize("callback", [EarlyStopping("val/f1", mode="max"), ModelCheckpoint(monitor="val/cells")])
def test_scores_not_made_each_time_are_refused(
    tiny_store: Path, tmp_path: Path, every: int, told: str, callback: pl.Callback
) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[callback], enable_checkpointing=True)
    with pytest.raises(UserError, match=told):
        trainer.fit(module_of(Counted()), tiny.data_of(tiny_store, full_validation_every=every))
    assert trainer.global_step == 0


def test_checkpoint_may_wait_for_whole_mosaic_scores(tiny_store: Path, tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "best", monitor="val/f1", mode="max", every_n_epochs=2)
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[best], enable_checkpointing=True, max_epochs=3)
    trainer.fit(module_of(), tiny.data_of(tiny_store, full_validation_every=2))
    assert best.best_model_score is not None


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


@pytest.mark.parametrize("kind", [UNet, LinkNet])
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


pytestmark = pytest.mark.slow
NEEDS_COMPILER = pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
NETWORKS: dict[str, Callable[[], SegmentationMixin]] = {
    "LinkNet": lambda: LinkNet(tiny.ENCODER),
    "hypercolumns": lambda: UNet(tiny.ENCODER, hypercolumns=True),
    "scales": lambda: LinkNet(tiny.ENCODER, scales=[0.5, 1.0]),
    "CASENet": lambda: CASENet(tiny.TIMM_ENCODER),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_captured_whole(name: str) -> None:
    torch.manual_seed(0)
    module = NETWORKS[name]().eval()
    keys = list(module.state_dict())
    image = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        wanted = module(image)
        # This back end compiles nothing, which takes minutes; whatever the front end cannot follow is an error here.
        module.network.compile(backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(module(image), wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(module(image[:1]), wanted[:1], rtol=1e-4, atol=1e-4)
    assert list(module.state_dict()) == keys


@NEEDS_COMPILER
def test_checkpoints_go_both_ways(tiny_store: Path, tmp_path: Path) -> None:
    def module(compiled: bool) -> SegmentationMixin:
        torch.manual_seed(0)
        return VanillaUNet(base_channels=2, depth=1, compile=compiled)

    def scores(compiled: bool, path: Path) -> Any:
        found = module(compiled)
        trainer = tiny.quiet_trainer(tmp_path)
        trainer.test(found, tiny.data_of(tiny_store), ckpt_path=path, verbose=False)
        predicted = trainer.predict(found, tiny.data_of(tiny_store), ckpt_path=path)
        assert predicted is not None
        return {key: float(value) for key, value in trainer.callback_metrics.items()}, predicted

    assert "compile" not in module(True).hparams
    for compiled in (True, False):
        trainer = tiny.quiet_trainer(tmp_path, max_epochs=1)
        trainer.fit(module(compiled), tiny.data_of(tiny_store))
        path = tmp_path / f"{compiled}.ckpt"
        trainer.save_checkpoint(path)
        own, other = scores(compiled, path), scores(not compiled, path)
        assert own[0].keys() == other[0].keys()
        for key, value in own[0].items():
            assert other[0][key] == pytest.approx(value, abs=0.02), key
        for ours, theirs in zip(own[1], other[1], strict=True):
            for rows, others in zip(ours, theirs, strict=True):
                # Quantised to 8 bit; rounding may fall to either side of a half.
                assert (rows.probability.int() - others.probability.int()).abs().max() <= 1
        # Training goes on from either.
        trainer = tiny.quiet_trainer(tmp_path, max_epochs=2)
        trainer.fit(module(not compiled), tiny.data_of(tiny_store), ckpt_path=path)
        assert trainer.global_step == 4
