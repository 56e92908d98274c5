"""MoCo over one and two ranks (gloo, CPU), through the command line with all of its callbacks.

An encoder without batch norms must learn the same. With batch norms it cannot: each rank normalises by the statistics
of its own half of the batch, queries as well as the shuffled keys. Then the queue must still be one.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.support.processes import run_ranks, words_of
from tests.support.tile_sets import make_tile_set

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

BATCH = 8


def write(path: Path, encoder: str) -> None:
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05, "momentum": 0.9}}
    moco = {"encoder": encoder, "dim": 8, "queue_size": 16, "momentum": 0.9, "optimizer": sgd}
    views = {"class_path": "TwoViews", "init_args": {"size": 32, "noise": [0.0, 0.0]}}
    content: dict[str, Any] = {
        "model": {"class_path": "MoCo", "init_args": moco},
        "data": {
            "class_path": "Tiles",
            "init_args": {"tiles": str(path.parent / "set"), "held_out": 0.3, "views": views, "seed": 1},
        },
        "checkpoint": {"monitor": None},
        "trainer": {
            **{"accelerator": "cpu", "max_epochs": 3, "deterministic": True, "log_every_n_steps": 1},
            **{"enable_progress_bar": False, "enable_model_summary": False},
            "callbacks+": [
                {"class_path": "KNNProbe", "init_args": {"neighbours": 3, "every_n_epochs": 1}},
                {"class_path": "tests.support.queue_checks.QueuesAgree"},
            ],
        },
    }
    path.write_text(yaml.safe_dump(content))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("moco-ranks")
    make_tile_set(path / "set")
    for encoder in ("test_convnext", "test_resnet"):
        write(path / f"{encoder}.yaml", encoder)
    for ranks in (1, 2):
        share = ["--data.batch_size", str(BATCH // ranks)]
        commands = [
            words_of(path, "fit", f"{encoder}{ranks}", *share, experiment=f"{encoder}.yaml")
            for encoder in ("test_convnext", "test_resnet")
        ]
        run_ranks(commands, ranks, path)
    return path


def state(run: Path) -> dict[str, torch.Tensor]:
    content: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return content


def column(run: Path, name: str) -> list[float]:
    lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    place = lines[0].index(name)
    return [float(line[place]) for line in lines[1:] if line[place]]


def test_two_ranks_learn_what_one_learns(folder: Path) -> None:
    one, two = (folder / f"test_convnext{ranks}" for ranks in (1, 2))
    losses = [column(run, "train/loss_step") for run in (one, two)]
    assert len(losses[0]) == 6
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert column(two, "val/knn") == column(one, "val/knn")
    states = [state(run) for run in (one, two)]
    assert int(states[0]["queue.position"]) == 0
    for name, value in states[0].items():
        assert torch.allclose(states[1][name], value, rtol=1e-3, atol=1e-4), name


def test_all_ranks_have_one_queue_of_whole_batches(folder: Path) -> None:
    one, two = (state(folder / f"test_resnet{ranks}") for ranks in (1, 2))
    for queue in (one["queue.keys"], two["queue.keys"]):
        torch.testing.assert_close(queue.norm(dim=0), torch.ones(16))
    # Asked after every step, of all ranks; rank 1 had begun with another queue.
    assert (folder / "test_resnet2" / "queues.txt").read_text() == "1\n" * 6
    # No random direction is left, and the ranks' keys are all there.
    assert len({tuple(key) for key in two["queue.keys"].T.tolist()}) == 16
    assert not torch.allclose(one["queue.keys"], two["queue.keys"], atol=1e-3)
