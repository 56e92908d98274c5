"""MoCo against a plain transcription of MoCo v2, its checkpoints, and what it refuses."""

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from data_modules.augment.views import TwoViews
from data_modules.errors import UserError
from data_modules.tiles import Tiles
from lightning_emseg import cli
from lightning_emseg.callbacks.resuming import KeyedRandomness
from lightning_emseg.modules import moco
from lightning_emseg.modules.moco import MoCo
from tests.support import tiny
from tests.support.tile_sets import make_tile_set

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-4)
Views = dict[str, Tensor]


def module_of(encoder: str = "test_resnet", **changes: Any) -> MoCo:
    options: dict[str, Any] = {"dim": 8, "queue_size": 24, "momentum": 0.9, "optimizer": SGD}
    torch.manual_seed(1)
    return MoCo(encoder, **{**options, "grey_mean": 120.0, "grey_std": 40.0, **changes})


def views(number: int, size: int = 6, dtype: torch.dtype = torch.float32) -> list[Views]:
    generator = torch.Generator().manual_seed(0)
    return [
        {name: 255 * torch.rand(size, 1, 48, 48, generator=generator, dtype=dtype) for name in ("image", "second")}
        for _ in range(number)
    ]


def loader(batches: list[Views]) -> DataLoader[Any]:
    return DataLoader(cast(Any, batches), batch_size=None, shuffle=False)


def plain_moco(f_q: torch.nn.Module, queue: Tensor, batches: list[Views], m: float, t: float) -> list[float]:
    """Algorithm 1 of He et al. 2020 line by line, with a list of keys for the queue."""
    f_k = deepcopy(f_q)
    optimizer = SGD(f_q.parameters())
    keys = list(queue.T)  # the oldest first
    losses = []
    for batch in batches:
        x_q, x_k = ((batch[name] - 120) / 40 for name in ("image", "second"))
        q, k = f_q(x_q), f_k(x_k).detach()
        l_pos = torch.stack([torch.dot(a, b) for a, b in zip(q, k, strict=True)])[:, None]
        l_neg = torch.stack([torch.stack([torch.dot(a, b) for b in keys]) for a in q])
        logits = torch.cat([l_pos, l_neg], dim=1) / t
        loss = F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(f_k.parameters(), f_q.parameters(), strict=True):
                slow.copy_(m * slow + (1 - m) * fast)
        keys = [*keys[len(k) :], *k]
        losses.append(loss.item())
    queue.copy_(torch.stack(keys).T)
    return losses


def test_training_follows_the_published_algorithm(tmp_path: Path) -> None:
    # Nine batches: the queue of four goes round twice and once more. In double precision, as the order of sums differs
    # from processor to processor, and what single precision rounds grows with every step.
    batches, module, losses = views(9, dtype=torch.float64), module_of().double(), tiny.Losses()
    reference, queue = deepcopy(module.encoder_q), module.queue.keys.clone()
    tiny.quiet_trainer(tmp_path, callbacks=[losses], precision="64-true").fit(module, loader(batches))
    expected = plain_moco(reference, queue, batches, 0.9, 0.2)
    assert losses.values == pytest.approx(expected, rel=1e-11)
    position = int(module.queue.position)
    assert position == 6
    torch.testing.assert_close(module.queue.keys.roll(-position, dims=1), queue, atol=1e-11, rtol=1e-10)
    for name, weight in reference.state_dict().items():
        torch.testing.assert_close(module.encoder_q.state_dict()[name], weight, atol=1e-11, rtol=1e-10)


def test_average_moves_by_momentum_without_gradient() -> None:
    module = module_of(momentum=0.75)
    with torch.no_grad():
        for weight in module.encoder_q.parameters():
            weight.add_(1.0)
    before = [weight.clone() for weight in module.encoder_k.parameters()]
    module.follow()
    for old, new in zip(before, module.encoder_k.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.25)
        assert not new.requires_grad


def test_average_follows_once_an_accumulated_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(MoCo, "follow", lambda self: calls.append(self.trainer.global_step))
    tiny.quiet_trainer(tmp_path, accumulate_grad_batches=2).fit(module_of(), loader(views(6)))
    assert calls == [0, 1, 2]


def test_groups_are_normalised_apart_and_keys_shuffled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = torch.tensor([4, 0, 3, 1, 5, 2])
    monkeypatch.setattr(moco, "share_permutation", lambda number, device: order)
    (batch,), module, losses = views(1), module_of(norm_groups=2), tiny.Losses()
    before = deepcopy(module)
    tiny.quiet_trainer(tmp_path, callbacks=[losses]).fit(module, loader([batch]))
    query, second = ((batch[name] - 120) / 40 for name in ("image", "second"))
    q = torch.cat([before.encoder_q(query[:3]), before.encoder_q(query[3:])])
    k = torch.zeros(6, 8)
    for part in order.split(3):  # type: ignore[no-untyped-call]
        k[part] = before.encoder_k(second[part])
    torch.testing.assert_close(module.queue.keys[:, :6].T, k, atol=1e-6, rtol=1e-5)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ before.queue.keys], dim=1) / 0.2
    assert losses.values == pytest.approx([F.cross_entropy(logits, torch.zeros(6, dtype=torch.long)).item()], rel=1e-6)


def test_one_process_is_warned_of_leaking_batch_norms(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"set --model\.norm_groups"):
        tiny.quiet_trainer(tmp_path).fit(module_of(), loader(views(1)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("moco") / "set"
    make_tile_set(path)
    return path


def data_of(folder: Path, **changes: Any) -> Tiles:
    options: dict[str, Any] = {"batch_size": 6, "held_out": 0.0, "seed": 2, "views": TwoViews(size=32)}
    return Tiles(str(folder), **{**options, **changes})


class SaveAt(pl.Callback):
    """Saves in the middle of an epoch, as runs do that are told to stop."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def test_resumed_run_equals_an_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "middle.ckpt"
    whole, resumed = (module_of(grey_mean=None, grey_std=None) for _ in range(2))
    with torch.no_grad():
        resumed.queue.keys.fill_(7)  # must come from the checkpoint
    # 26 tiles: four steps an epoch.
    callbacks = [KeyedRandomness(), SaveAt(6, path)]
    tiny.quiet_trainer(tmp_path, max_epochs=3, callbacks=callbacks).fit(whole, data_of(folder))
    again = tiny.quiet_trainer(tmp_path, max_epochs=3, callbacks=[KeyedRandomness()])
    again.fit(resumed, data_of(folder), ckpt_path=str(path))
    assert again.global_step == 12
    assert bool(whole.grey_mean.isfinite())
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_grey_values_come_from_tiles_unless_given(folder: Path, tmp_path: Path) -> None:
    data = data_of(folder)
    measured, given = module_of(grey_mean=None, grey_std=None), module_of(grey_std=None)
    for module in (measured, given):
        tiny.quiet_trainer(tmp_path, max_steps=1).fit(module, data)
    mean, std = data.norms()
    assert float(measured.grey_mean) == pytest.approx(mean)
    assert float(given.grey_mean) == 120.0
    assert float(given.grey_std) == pytest.approx(std)
    with torch.no_grad():
        image = torch.full((1, 1, 32, 32), 100, dtype=torch.uint8)
        given.eval()
        expected = given.encoder_q.backbone((image.float() - 120) / given.grey_std)
        assert torch.equal(given(image), expected)
    with pytest.raises(UserError, match=r"give --model\.grey_mean"):
        tiny.quiet_trainer(tmp_path).fit(module_of(grey_mean=None), loader(views(1)))


def test_batches_that_do_not_divide_queue_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"queue of 25 keys .* batches of 6 .*queue_size 24 or 30"):
        tiny.quiet_trainer(tmp_path).fit(module_of(queue_size=25), data_of(folder))
    with pytest.raises(UserError, match="batch of 6 cannot be normalised in 4 equal groups"):
        tiny.quiet_trainer(tmp_path).fit(module_of(norm_groups=4), data_of(folder))


def test_queues_that_hold_an_epoch_are_warned_of(folder: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="queue of 24 keys holds all 24 images"):
        tiny.quiet_trainer(tmp_path, max_steps=1).fit(module_of(), data_of(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "resnet5o"}, r"model\.encoder 'resnet5o'"),
        ({"momentum": 1.5}, "momentum must lie in 0–1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"queue_size": 0}, "queue_size must be at least 1"),
        ({"norm_groups": 0}, "norm_groups must be at least 1"),
        ({"grey_mean": 300.0}, "grey_mean"),
        ({"grey_std": 0.0}, "grey_std"),
    ],
)
def test_values_out_of_range_are_refused(changes: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        module_of(**changes)


def test_checkpoints_of_another_queue_or_encoder_are_refused(tmp_path: Path) -> None:
    trainer = tiny.quiet_trainer(tmp_path)
    trainer.fit(module_of(), loader(views(1)))
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    for other, name in ((module_of(queue_size=12), "queue.keys"), (module_of("test_convnext"), "MoCo")):
        with pytest.raises(UserError, match=name):
            tiny.quiet_trainer(tmp_path).fit(other, loader(views(1)), ckpt_path=str(tmp_path / "m.ckpt"))


def test_defaults_are_those_of_the_paper() -> None:
    module = MoCo("test_resnet")
    optimizer = cast(dict[str, Any], module.configure_optimizers())
    group = optimizer["optimizer"].param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.015, 0.9, 1e-4)
    rates = {}
    for epoch in range(200):
        rates[epoch] = group["lr"]
        optimizer["optimizer"].step()
        optimizer["lr_scheduler"]["scheduler"].step()
    assert [rates[epoch] for epoch in (0, 119, 120, 159, 160, 199)] == pytest.approx(
        [0.015, 0.015, 0.0015, 0.0015, 0.00015, 0.00015]
    )
    assert tuple(module.queue.keys.shape) == (128, 65536)
    assert (module.momentum, module.temperature) == (0.999, 0.2)
    trained = {id(weight) for weight in group["params"]}
    assert trained == {id(weight) for weight in module.encoder_q.parameters()}


def test_checkpoints_that_wait_for_a_segmentation_are_refused(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, monitor="val_tiles/f1")
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[checkpoint], enable_checkpointing=True)
    with pytest.raises(UserError, match=r"nothing here makes val_tiles/f1.*set --checkpoint.monitor to null"):
        trainer.fit(module_of(), loader(views(1)))


def test_verbs_without_meaning_end_with_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = tiny.quiet_trainer(tmp_path)
    trainer.fit(module_of(), loader(views(1)))
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    make_tile_set(tmp_path / "tiles", {"a": 12})
    words = ["--model", "MoCo", "--model.encoder", "test_resnet", "--model.dim", "8", "--model.queue_size", "24"]
    data = ["--data", "Tiles", "--data.tiles", str(tmp_path / "tiles")]
    data += ["--trainer.default_root_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as caught:
        cli.main(["validate", *words, *data, "--ckpt_path", str(tmp_path / "m.ckpt")])
    assert "error: No `validation_step()`" in str(caught.value.code)
