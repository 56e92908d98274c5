"""Checkpoints: safe to read, and clear about what does not fit."""

from functools import partial
from pathlib import Path

import pytest
import torch

from data_modules.errors import UserError
from lightning_emseg import checkpoints
from lightning_emseg.modules.linknet import LinkNet
from lightning_emseg.modules.unet import UNet
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import tiny


@pytest.fixture(scope="module")
def trained(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(1)
    module = VanillaUNet(base_channels=4, depth=2, grey_mean=120.0, optimizer=partial(torch.optim.Adam, lr=0.01))
    trainer = tiny.quiet_trainer(folder)
    trainer.fit(module, tiny.data_of(tiny_store))
    trainer.save_checkpoint(folder / "v.ckpt")
    return folder / "v.ckpt"


def test_loads_without_running_code(trained: Path) -> None:
    content = torch.load(trained, weights_only=True)
    assert content["emseg"]["architecture"] == "VanillaUNet"
    assert "mean_f1 on validation" in content["emseg"]["threshold_source"]
    assert content["state_dict"]["grey_mean"] == 120
    assert "threshold" in content["state_dict"]


def test_module_built_in_python_loads_by_lightning(trained: Path) -> None:
    module = VanillaUNet.load_from_checkpoint(trained, map_location="cpu")
    assert float(module.grey_mean) == 120
    given = torch.load(trained, weights_only=True)["state_dict"]
    assert all(torch.equal(value, given[key]) for key, value in module.state_dict().items())
    assert module.hparams["base_channels"] == 4


def test_start_from_takes_all_weights_and_nothing_else(trained: Path, tiny_store: Path, tmp_path: Path) -> None:
    module = VanillaUNet(base_channels=4, depth=2, start_from=str(trained))
    trainer = tiny.quiet_trainer(tmp_path, max_epochs=0, limit_val_batches=0)
    trainer.fit(module, tiny.data_of(tiny_store))
    given = torch.load(trained, weights_only=True)["state_dict"]
    assert all(torch.equal(value, given[key]) for key, value in module.state_dict().items())
    assert trainer.current_epoch == 0


def test_start_from_is_not_needed_after_training(trained: Path, tiny_store: Path, tmp_path: Path) -> None:
    module = VanillaUNet(base_channels=4, depth=2, start_from=str(tmp_path / "gone.ckpt"))
    tiny.quiet_trainer(tmp_path).test(module, tiny.data_of(tiny_store), str(trained), verbose=False)
    with pytest.raises(UserError, match=r"no checkpoint at .*gone\.ckpt"):
        tiny.quiet_trainer(tmp_path).fit(module, tiny.data_of(tiny_store))


@pytest.mark.parametrize("other", [UNet(tiny.ENCODER), VanillaUNet(base_channels=8, depth=2)])
def test_another_architecture_is_explained(
    trained: Path, tiny_store: Path, tmp_path: Path, other: UNet | VanillaUNet
) -> None:
    with pytest.raises(UserError, match="is of VanillaUNet and does not fit the configured") as caught:
        tiny.quiet_trainer(tmp_path).test(other, tiny.data_of(tiny_store), str(trained), verbose=False)
    assert len(str(caught.value)) < 600
    assert "Use the --config" in str(caught.value)


def test_files_that_are_no_checkpoints(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint at"):
        checkpoints.read(tmp_path / "none.ckpt")
    (tmp_path / "cut.ckpt").write_bytes(trained.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cut\.ckpt cannot be read as a checkpoint"):
        checkpoints.read(tmp_path / "cut.ckpt")
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="no `state_dict`"):
        checkpoints.read(tmp_path / "other.ckpt")


def test_a_file_with_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match="cannot be read"):
        checkpoints.read(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


def test_load_weights_names_what_differs(trained: Path) -> None:
    with pytest.raises(UserError, match=r"VanillaUNet and does not fit the configured LinkNet: \d+ missing, e\.g\. "):
        checkpoints.load_weights(LinkNet(tiny.ENCODER), trained)


def test_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    # The test vector of FIPS 180-2.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert checkpoints.file_hash(tmp_path / "f") == expected
