"""`compile`: the same results and the same checkpoints as without, in every verb."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_emseg.modules.casenet import CASENet
from lightning_emseg.modules.linknet import LinkNet
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.unet import UNet
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import tiny

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
