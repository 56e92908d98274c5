"""U-Nets overfit, take any side, and freeze their encoders on request."""

from functools import partial
from pathlib import Path

import pytest
import torch

from lightning_emseg.modules.unet import UNet
from tests.support import tiny


def test_unet_overfits_a_patch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tiny.make_store(tmp_path / "one.zarr", {"train": ((64, 64),), "val": ((64, 64),)})
    module = UNet(tiny.ENCODER, optimizer=partial(torch.optim.Adam, lr=1e-3))
    losses = tiny.Losses()
    trainer = tiny.quiet_trainer(tmp_path, max_steps=25, limit_val_batches=0, callbacks=[losses])
    trainer.fit(module, tiny.data_of(tmp_path / "one.zarr", patches_per_epoch=80))
    assert losses.values[-1] < 0.6 * losses.values[0]


def test_unet_of_smp_takes_any_side() -> None:
    assert UNet(tiny.ENCODER).eval()(torch.zeros(1, 1, 64, 100)).shape == (1, 1, 64, 100)


@pytest.mark.parametrize(("freeze", "norms"), [(True, True), (True, False), (False, True)])
def test_unet_freezes_its_encoder_on_request(tiny_store: Path, tmp_path: Path, freeze: bool, norms: bool) -> None:
    adam = partial(torch.optim.Adam, lr=0.01)
    module = UNet(tiny.ENCODER, freeze_encoder=freeze, freeze_norms=norms, hypercolumns=True, optimizer=adam)
    assert not any("_still" in key for key in module.state_dict())
    before = {key: value.clone() for key, value in module.state_dict().items()}
    tiny.quiet_trainer(tmp_path).fit(module, tiny.data_of(tiny_store))
    same = {key: torch.equal(value, before[key]) for key, value in module.state_dict().items()}
    statistics = {key for key in same if "running_" in key or key.endswith("tracked")}
    assert all(same[key] for key in set(same) - statistics if ".encoder." in key) is freeze
    assert all(same[key] for key in statistics if ".encoder." in key) is (freeze and norms)
    assert not all(same[key] for key in same if ".encoder." not in key)
