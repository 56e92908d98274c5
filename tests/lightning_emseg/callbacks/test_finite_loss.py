"""A loss or gradient that is not finite ends training before the weights change, and its batch is kept."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.callbacks.finite_loss import FiniteLoss
from tests.support import tiny
from tests.support.failing_parts import BrokenLoss, SteepLoss


class Weights(pl.Callback):
    """Notes the weight before every step."""

    def __init__(self) -> None:
        self.before: list[float] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        self.before.append(float(next(pl_module.parameters())))


def _fit(folder: Path, store: Path, loss: nn.Module, **options: Any) -> tuple[tiny.GreyModule, Weights, str]:
    module, weights = tiny.GreyModule(loss=loss), Weights()
    trainer = tiny.quiet_trainer(
        folder, callbacks=[weights, FiniteLoss()], max_epochs=2, limit_val_batches=0, logger=False, **options
    )
    with pytest.raises(UserError) as caught:
        trainer.fit(module, tiny.data_of(store))
    return module, weights, str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_stay_unchanged_at_a_bad_loss(tiny_store: Path, tmp_path: Path, value: float) -> None:
    # Two steps an epoch, so that the fourth is the second one of the second epoch.
    module, weights, message = _fit(tmp_path, tiny_store, BrokenLoss(call=4, value=value))
    assert len(weights.before) == 4
    assert float(module.network.slope) == weights.before[-1]  # type: ignore[arg-type]
    assert len(set(weights.before)) == 4
    assert f"training loss is {value} in epoch 1 at step 3" in message
    assert "not updated" in message
    record = json.loads((tmp_path / "bad-batch.json").read_text())
    assert (record["epoch"], record["step"], record["loss"]) == (1, 3, [str(value)])
    assert record["weights_finite"] is True


def test_the_batch_is_kept_with_its_origins(tmp_path: Path) -> None:
    made = tiny.make_store(tmp_path / "s.zarr")
    _, _, message = _fit(tmp_path, tmp_path / "s.zarr", BrokenLoss(call=2))
    record = json.loads((tmp_path / "bad-batch.json").read_text())
    assert len(record["patches"]) == 2
    with np.load(tmp_path / "bad-batch.npz") as arrays:
        for number, patch in enumerate(record["patches"]):
            image, mask = made[patch["sample"]]
            y, x = patch["origin_px"]
            assert np.array_equal(arrays["image"][number, 0], image[y : y + 64, x : x + 64])
            assert np.array_equal(arrays["mask"][number], mask[y : y + 64, x : x + 64])
            assert patch["rank"] == 0
            assert f"{patch['sample']} at ({y}, {x})" in message
    assert str(tmp_path / "bad-batch.json") in message


def test_accumulated_steps_stop_at_the_bad_batch(tiny_store: Path, tmp_path: Path) -> None:
    module, weights, message = _fit(tmp_path, tiny_store, BrokenLoss(call=3), accumulate_grad_batches=2)
    assert "epoch 1 at step 1" in message
    assert float(module.network.slope) == weights.before[-1]  # type: ignore[arg-type]


def test_infinite_gradient_leaves_weights_unchanged(tiny_store: Path, tmp_path: Path) -> None:
    module, weights, message = _fit(tmp_path, tiny_store, SteepLoss(call=4))
    assert len(set(weights.before)) == 4
    assert float(module.network.slope) == weights.before[-1]  # type: ignore[arg-type]
    assert re.search(
        r"gradient of network\.slope is NaN or infinite, though the loss is -?\d+\.\d+, in epoch 1", message
    )
    assert "in epoch 1 at step 3" in message
    assert "not updated" in message
    record = json.loads((tmp_path / "bad-batch.json").read_text())
    assert (record["epoch"], record["step"], record["gradients"]) == (1, 3, ["network.slope"])
    assert math.isfinite(float(record["loss"][0]))
    assert [patch["index"] for patch in record["patches"]] == [2, 3]
    with np.load(tmp_path / "bad-batch.npz") as arrays:
        assert arrays["image"].shape == (2, 1, 64, 64)


def test_accumulated_gradients_name_the_last_batch(tiny_store: Path, tmp_path: Path) -> None:
    module, weights, message = _fit(tmp_path, tiny_store, SteepLoss(call=3), accumulate_grad_batches=2)
    assert "epoch 1 at step 1" in message
    assert "the last of the 2 batches" in message
    assert float(module.network.slope) == weights.before[-1]  # type: ignore[arg-type]
    # The first one was bad, which nobody can see any more.
    record = json.loads((tmp_path / "bad-batch.json").read_text())
    assert [patch["index"] for patch in record["patches"]] == [2, 3]


def test_steps_skipped_by_loss_scaling_are_allowed(tiny_store: Path, tmp_path: Path) -> None:
    module, weights, scaler = tiny.GreyModule(loss=SteepLoss(call=2)), Weights(), torch.amp.GradScaler("cpu")
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    trainer = tiny.quiet_trainer(
        tmp_path, callbacks=[weights, FiniteLoss()], max_epochs=2, limit_val_batches=0, plugins=[plugin]
    )
    trainer.fit(module, tiny.data_of(tiny_store))
    # The second of four steps was skipped.
    assert weights.before[1] == weights.before[2]
    assert len(set(weights.before)) == 3
    assert scaler.get_scale() == 65536 / 2
    assert not list(tmp_path.glob("bad-batch*"))


class Enormous(nn.Module):
    """A loss of which squared gradients overflow."""

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        mean: Tensor = logits.mean()
        return mean * 1e30


def test_large_gradients_are_finite(tiny_store: Path, tmp_path: Path) -> None:
    module = tiny.GreyModule(loss=Enormous(), optimizer=lambda weights: torch.optim.SGD(weights, lr=1e-32))
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[FiniteLoss()], limit_val_batches=0)
    trainer.fit(module, tiny.data_of(tiny_store))
    assert trainer.global_step == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_bad_weight_of_many_is_named(tiny_store: Path, tmp_path: Path, value: float) -> None:
    module = tiny.ConvolutionModule()

    def spoil(gradient: Tensor) -> Tensor:
        spoilt = gradient.clone()
        spoilt.view(-1)[-1] = value
        return spoilt

    module.network[1].weight.register_hook(spoil)  # type: ignore[index]
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[FiniteLoss()], limit_val_batches=0)
    with pytest.raises(UserError, match=r"gradient of network\.1\.weight is NaN or infinite"):
        trainer.fit(module, tiny.data_of(tiny_store))
    assert json.loads((tmp_path / "bad-batch.json").read_text())["gradients"] == ["network.1.weight"]


def test_overflowed_weights_are_told_from_bad_images(tiny_store: Path, tmp_path: Path) -> None:
    module = tiny.GreyModule()
    with torch.no_grad():
        next(module.parameters()).fill_(math.nan)
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[FiniteLoss()], limit_val_batches=0)
    with pytest.raises(UserError, match="weights themselves were no longer finite"):
        trainer.fit(module, tiny.data_of(tiny_store))
    assert json.loads((tmp_path / "bad-batch.json").read_text())["weights_finite"] is False


def test_a_full_disk_does_not_hide_the_loss(tiny_store: Path, tmp_path: Path) -> None:
    (tmp_path / "bad-batch.json").symlink_to("/dev/full")
    _, _, message = _fit(tmp_path, tiny_store, BrokenLoss(call=1))
    assert "training loss is nan" in message
    assert "could not be kept" in message
    assert "No space left on device" in message


def test_finite_losses_pass_and_change_nothing(tiny_store: Path, tmp_path: Path) -> None:
    found = []
    for callbacks in ([], [FiniteLoss()]):
        module = tiny.GreyModule()
        tiny.quiet_trainer(tmp_path, callbacks=callbacks, limit_val_batches=0).fit(module, tiny.data_of(tiny_store))
        found.append(float(next(module.parameters())))
    assert found[0] == found[1]
    assert not list(tmp_path.glob("bad-batch*"))
