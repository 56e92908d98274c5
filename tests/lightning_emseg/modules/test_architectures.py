"""Every architecture learns, through a real Trainer."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
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
    "unet": partial(UNet, "resnet18"),
    "unet scse": partial(UNet, "resnet18", decoder_attention="scse"),
    "unet hypercolumns": partial(UNet, "resnet18", hypercolumns=True),
    "unet scales": partial(UNet, "resnet18", scales=[0.5, 1.0]),
    "unet all": partial(UNet, "resnet18", decoder_attention="scse", hypercolumns=True, scales=[0.5, 1.0]),
    "linknet": LinkNet,
    "linknet hypercolumns": partial(LinkNet, hypercolumns=True),
    "casenet": partial(CASENet, "resnet18"),
    "casenet batch norm": partial(CASENet, "resnet18", fusion_batch_norm=True),
    "vanilla": partial(VanillaUNet, base_channels=4, depth=3),
    "smp fpn": partial(SmpModel, "FPN", "resnet18"),
    "smp scales": partial(SmpModel, "UnetPlusPlus", "resnet18", scales=[0.5, 1.0]),
}


class _Losses(pl.Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(float(outputs["loss"].detach()))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture_takes_steps(name: str, tiny_store: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = ARCHITECTURES[name]()
    before = {key: value.clone() for key, value in module.named_parameters()}
    losses = _Losses()
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


def test_unet_overfits_a_patch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tiny.make_store(tmp_path / "one.zarr", {"train": ((64, 64),), "val": ((64, 64),)})
    module = UNet("resnet18", optimizer=partial(torch.optim.Adam, lr=1e-3))
    losses = _Losses()
    trainer = tiny.quiet_trainer(tmp_path, max_steps=25, limit_val_batches=0, callbacks=[losses])
    trainer.fit(module, tiny.data_of(tmp_path / "one.zarr", patches_per_epoch=80))
    assert losses.values[-1] < 0.6 * losses.values[0]


def _moco_file(path: Path, norms: tuple[float, float] = (0.57, 0.12)) -> dict[str, torch.Tensor]:
    """A file as CEM500K released it, of a ResNet-18."""
    torch.manual_seed(7)
    encoder = smp.Unet("resnet18", encoder_weights=None, in_channels=1).encoder.state_dict()
    for key, value in encoder.items():
        if key.endswith("running_mean"):
            value.add_(0.25)  # so that statistics count as loaded, too
    state = {f"module.encoder_q.{key}": value for key, value in encoder.items()}
    torch.save({"state_dict": state, "norms": list(norms)}, path)
    return dict(encoder)


@pytest.mark.parametrize("freeze", [True, False])
def test_transfer_starts_from_the_file_and_freezes_on_request(tiny_store: Path, tmp_path: Path, freeze: bool) -> None:
    given = _moco_file(tmp_path / "moco.pth.tar")
    module = UNetTransfer(
        str(tmp_path / "moco.pth.tar"), freeze, "resnet18", optimizer=partial(torch.optim.Adam, lr=0.01)
    )
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
    other = UNetTransfer(encoder="resnet18")
    tiny.quiet_trainer(tmp_path).test(other, tiny.data_of(tiny_store), str(tmp_path / "t.ckpt"), verbose=False)
    assert float(other.grey_mean) == pytest.approx(0.57 * 255)
    assert torch.equal(other.grey_std, module.grey_std)
    if not freeze:
        return
    resumed = UNetTransfer(str(tmp_path / "moco.pth.tar"), freeze, "resnet18")
    again = tiny.quiet_trainer(tmp_path, max_steps=4, max_epochs=2, limit_val_batches=0)
    again.fit(resumed, tiny.data_of(tiny_store), ckpt_path=str(tmp_path / "t.ckpt"))
    assert again.global_step > 2
    assert torch.equal(resumed.get_parameter("network.encoder.conv1.weight"), given["conv1.weight"])


def test_transfer_without_norms_keeps_its_own(tiny_store: Path, tmp_path: Path) -> None:
    _moco_file(tmp_path / "moco.pth.tar")
    module = UNetTransfer(str(tmp_path / "moco.pth.tar"), encoder="resnet18", use_norms=False)
    tiny.quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(module, tiny.data_of(tiny_store))
    assert float(module.grey_mean) == 127.5


def test_transfer_needs_weights_to_begin(tiny_store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--model\.weights FILE"):
        tiny.quiet_trainer(tmp_path).fit(UNetTransfer(encoder="resnet18"), tiny.data_of(tiny_store))


def test_grey_values_are_normalised_by_the_module() -> None:
    module = tiny.GreyModule(grey_mean=100.0, grey_std=20.0)
    image = torch.tensor([[[[80, 100, 120]]]], dtype=torch.uint8)
    assert module(image).flatten().tolist() == [tiny.SLOPE, 0.0, -tiny.SLOPE]


def test_wrong_channels_and_sides_are_explained() -> None:
    module = LinkNet(in_channels=3)
    with pytest.raises(UserError, match=r"have 1 channel\(s\) .* --model.in_channels 1"):
        module(torch.zeros(1, 1, 64, 64))
    with pytest.raises(UserError, match=r"multiples of 32 px, not 100: .* e\.g\. 96"):
        module(torch.zeros(1, 3, 64, 100))


def test_unknown_architecture_of_smp_is_explained() -> None:
    with pytest.raises(UserError, match="Nonsense"):
        SmpModel("Nonsense", "resnet18")
    with pytest.raises(UserError, match="resnet17"):
        SmpModel("FPN", "resnet17")


def test_unet_of_smp_takes_any_side() -> None:
    assert UNet("resnet18").eval()(torch.zeros(1, 1, 64, 100)).shape == (1, 1, 64, 100)


@pytest.mark.parametrize(("freeze", "norms"), [(True, True), (True, False), (False, True)])
def test_unet_freezes_its_encoder_on_request(tiny_store: Path, tmp_path: Path, freeze: bool, norms: bool) -> None:
    adam = partial(torch.optim.Adam, lr=0.01)
    module = UNet("resnet18", freeze_encoder=freeze, freeze_norms=norms, hypercolumns=True, optimizer=adam)
    assert not any("_still" in key for key in module.state_dict())
    before = {key: value.clone() for key, value in module.state_dict().items()}
    tiny.quiet_trainer(tmp_path).fit(module, tiny.data_of(tiny_store))
    same = {key: torch.equal(value, before[key]) for key, value in module.state_dict().items()}
    statistics = {key for key in same if "running_" in key or key.endswith("tracked")}
    assert all(same[key] for key in set(same) - statistics if ".encoder." in key) is freeze
    assert all(same[key] for key in statistics if ".encoder." in key) is (freeze and norms)
    assert not all(same[key] for key in same if ".encoder." not in key)
