"""A run that has every kind of state, a diary of its steps, and an end by signal at a chosen place."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from torch import Tensor, nn

from data_modules.batch import Batch
from lightning_emseg.modules.mixin import SegmentationMixin

STOP = "EMSEG_TEST_STOP"
"""Environment variable: signal, place (name of a hook), count of its calls, rank."""


class DropoutNet(SegmentationMixin):
    """Running statistics in batch normalisation, random numbers in dropout."""

    def __init__(self, **kwargs: Any) -> None:
        layers = [nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(6, 1, 1)]
        super().__init__(nn.Sequential(*layers), **kwargs)


class Diary(pl.Callback):
    """Writes a line a step: where it is, what it learns from, and what came out, to the last bit."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        line = {
            "epoch": trainer.current_epoch,
            "batch": batch_idx,
            "patches": batch["index"].tolist(),
            "origins": batch["origin"].tolist(),
            "grey": float(batch["image"].double().sum()),
            "loss": float(outputs["loss"]),
            "rate": trainer.optimizers[0].param_groups[0]["lr"],
        }
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"diary-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


class Struck(pl.Callback):
    """Sends this process a signal at the place that the environment names."""

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}

    def _at(self, place: str, rank: int) -> None:
        self._calls[place] = self._calls.get(place, 0) + 1
        if os.environ.get(STOP):
            number, where, count, of = os.environ[STOP].split()
            if (where, int(count), int(of)) == (place, self._calls[place], rank):
                os.kill(os.getpid(), signal.Signals[number])

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        self._at("batch", trainer.global_rank)

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        self._at("step", trainer.global_rank)

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        self._at("validation", trainer.global_rank)

    def on_train_epoch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        self._at("epoch", trainer.global_rank)


def write_experiment(folder: Path, store: Path, **changes: Any) -> None:
    """``folder/e.yaml``: 4 epochs of 5 batches of 2 patches; ``changes`` by dotted key, dots as double underscores."""
    data = {"store": str(store), "patch_size": 32, "batch_size": 2, "patches_per_epoch": 10, "val_tiles": 4}
    augment = {"class_path": "data_modules.augment.images.Augment", "init_args": {"noise": 0.02}}
    content: dict[str, Any] = {
        "model": {"class_path": "tests.support.interrupted.DropoutNet", "init_args": {}},
        "data": {"class_path": "Mosaic", "init_args": {**data, "augment": augment, "full_validation_every": 3}},
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 4,
            "deterministic": True,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            # The command line adds its own behind these.
            "callbacks": [
                {"class_path": "tests.support.interrupted.Diary"},
                {"class_path": "tests.support.interrupted.Struck"},
            ],
        },
    }
    for key, value in changes.items():
        *path, last = key.split("__")
        place = content
        for part in path:
            place = place[part]
        place[last] = value
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "e.yaml").write_text(yaml.safe_dump(content))


def diary(run: Path, rank: int = 0) -> list[dict[str, Any]]:
    """The lines of a run, in the order in which they were written."""
    path = run / f"diary-{rank}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def state(run: Path, name: str = "last") -> dict[str, Any]:
    """All of a checkpoint that training goes on from."""
    checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    keys = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers")
    kept = {key: checkpoint[key] for key in keys}
    (saver,) = (value for key, value in checkpoint["callbacks"].items() if key.startswith("ModelCheckpoint"))
    return {**kept, "best": saver["best_model_score"]}


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Places at which two nested states are not equal to the bit."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for key in one for found in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [found for number, pair in pairs for found in differences(*pair, f"{where}/{number}")]
    same = torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one == other
    return [] if same else [f"{where}: {one} != {other}"]
