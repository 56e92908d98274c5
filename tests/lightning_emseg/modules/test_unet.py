"""U-Nets overfit, take any side, start from pretrained encoders, and freeze them on request."""

from functools import partial
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
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
    assert len(module.state_dict()) == len(UNet(tiny.ENCODER, hypercolumns=True).state_dict())
    before = {key: value.clone() for key, value in module.state_dict().items()}
    tiny.quiet_trainer(tmp_path).fit(module, tiny.data_of(tiny_store))
    same = {key: torch.equal(value, before[key]) for key, value in module.state_dict().items()}
    statistics = {key for key in same if "running_" in key or key.endswith("tracked")}
    assert all(same[key] for key in set(same) - statistics if ".encoder." in key) is freeze
    assert all(same[key] for key in statistics if ".encoder." in key) is (freeze and norms)
    assert not all(same[key] for key in same if ".encoder." not in key)


def _moco_file(path: Path, norms: tuple[float, float] = (0.57, 0.12)) -> dict[str, torch.Tensor]:
    """A file as CEM500K released it, of a small residual network."""
    torch.manual_seed(7)
    encoder = smp.Unet(tiny.ENCODER, encoder_weights=None, in_channels=1).encoder.state_dict()
    for key, value in encoder.items():
        if key.endswith("running_mean"):
            value.add_(0.25)  # so that statistics count as loaded, too
    state = {f"module.encoder_q.{key}": value for key, value in encoder.items()}
    torch.save({"state_dict": state, "norms": list(norms)}, path)
    return dict(encoder)


@pytest.mark.parametrize("freeze", [True, False])
def test_fit_starts_from_file_and_freezes_on_request(tiny_store: Path, tmp_path: Path, freeze: bool) -> None:
    given = _moco_file(tmp_path / "moco.pth.tar")
    module = UNet(tiny.ENCODER, str(tmp_path / "moco.pth.tar"), freeze, optimizer=partial(torch.optim.Adam, lr=0.01))
    trainer = tiny.quiet_trainer(tmp_path, max_steps=2, limit_val_batches=1)
    decoder = {key: value.clone() for key, value in module.get_submodule("network.decoder").named_parameters()}
    trainer.fit(module, tiny.data_of(tiny_store))
    trained = module.get_submodule("network.encoder").state_dict()
    # Frozen means batch-norm statistics, too.
    assert all(torch.equal(trained[key], value) for key, value in given.items()) is freeze
    now = module.get_submodule("network.decoder").named_parameters()
    assert not all(torch.equal(value, decoder[key]) for key, value in now)
    assert float(module.grey_mean) == pytest.approx(0.57 * 255)
    assert float(module.grey_std) == pytest.approx(0.12 * 255)

    # The norms travel in the checkpoint; neither the file nor its path is needed any more.
    trainer.save_checkpoint(tmp_path / "t.ckpt")
    (tmp_path / "moco.pth.tar").unlink()
    other = UNet(tiny.ENCODER)
    tiny.quiet_trainer(tmp_path).test(other, tiny.data_of(tiny_store), str(tmp_path / "t.ckpt"), verbose=False)
    assert float(other.grey_mean) == pytest.approx(0.57 * 255)
    assert torch.equal(other.grey_std, module.grey_std)
    if not freeze:
        return
    resumed = UNet(tiny.ENCODER, str(tmp_path / "moco.pth.tar"), freeze)
    again = tiny.quiet_trainer(tmp_path, max_steps=4, max_epochs=2, limit_val_batches=0)
    again.fit(resumed, tiny.data_of(tiny_store), ckpt_path=str(tmp_path / "t.ckpt"))
    assert again.global_step > 2
    first = next(iter(given))
    assert torch.equal(resumed.get_parameter(f"network.encoder.{first}"), given[first])


def test_unet_without_norms_keeps_its_own(tiny_store: Path, tmp_path: Path) -> None:
    _moco_file(tmp_path / "moco.pth.tar")
    module = UNet(tiny.ENCODER, str(tmp_path / "moco.pth.tar"), use_norms=False)
    tiny.quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(module, tiny.data_of(tiny_store))
    assert float(module.grey_mean) == 127.5
