"""The same training whatever the number of ranks: at one global batch the weights agree to rounding."""

import json
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from ranks import lightning
from torch import Tensor

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

GLOBAL_BATCH = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("training")
    # Mosaics and tiles that do not divide by the ranks.
    tiny.make_store(path / "s.zarr", {"train": ((90, 80), (70, 66)), "val": ((90, 130), (70, 66)), "test": ((70, 70),)})
    augment = {"class_path": "data_modules.transforms.Augment"}
    data = {"store": str(path / "s.zarr"), "patch_size": 48, "patches_per_epoch": 18, "augment": augment, "seed": 3}
    content = {
        "model": {
            "class_path": "tiny.ConvolutionModule",
            "init_args": {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}}},
        },
        "data": {"class_path": "Mosaic", "init_args": {**data, "full_validation_every": 1}},
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 2,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "deterministic": True,
        },
    }
    (path / "e.yaml").write_text(yaml.safe_dump(content))
    for ranks in (1, 2, 3):
        lightning(path, "fit", f"r{ranks}", ranks, "--data.batch_size", str(GLOBAL_BATCH // ranks))
    return path


def weights(folder: Path, ranks: int) -> dict[str, Tensor]:
    checkpoint = torch.load(folder / f"r{ranks}" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2 * 18 // GLOBAL_BATCH
    found: dict[str, Tensor] = checkpoint["state_dict"]
    return found


@pytest.mark.parametrize("ranks", [2, 3])
def test_weights_agree_to_rounding(folder: Path, ranks: int) -> None:
    one, several = weights(folder, 1), weights(folder, ranks)
    moved = 0.0
    for name, weight in one.items():
        torch.testing.assert_close(several[name], weight, rtol=2e-4, atol=2e-5)
        moved = max(moved, float(weight.std()) if weight.ndim > 1 else 0.0)
    assert moved > 0.05


@pytest.mark.parametrize("ranks", [2, 3])
def test_scores_of_the_last_validation_agree(folder: Path, ranks: int) -> None:
    one, several = (json.loads((folder / f"r{n}" / "scores-validate.json").read_text()) for n in (1, ranks))
    assert set(one["mosaics"]) == set(several["mosaics"]) == {"val/m0", "val/m1"}
    for key in one["mosaics"]:
        mine, theirs = (
            [scores["mosaics"][key][name] for name in ("tp", "fp", "fn", "tn")] for scores in (one, several)
        )
        # Rounded weights move a few pixels across the threshold, and none is lost or counted twice.
        assert sum(mine) == sum(theirs)
        assert max(abs(a - b) for a, b in zip(mine, theirs, strict=True)) <= 0.01 * sum(mine)


@pytest.mark.parametrize("ranks", [2, 3])
def test_counts_of_the_same_weights_agree_to_the_bit(folder: Path, ranks: int) -> None:
    best = ["--ckpt_path", str(folder / "r1" / "checkpoints" / "last.ckpt"), "--data.batch_size", "2"]
    for number in (1, ranks):
        lightning(folder, "validate", f"v{number}", number, *best)
    one, several = (json.loads((folder / f"v{n}" / "scores-validate.json").read_text()) for n in (1, ranks))
    assert one == several
