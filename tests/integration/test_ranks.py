"""One, two and three ranks (gloo, CPU) give the same: weights to rounding, all files of the same weights to the bit.

All commands of a number of ranks run in one start of its processes, as starts take most of the time. ``pytest -s``
prints how far apart all files are.
"""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.exactness import by_kind, differences, table, weights
from tests.support.processes import run_lightning_of_user, run_ranks, words_of
from tests.support.rank_runs import GLOBAL_BATCH, accumulated, best, of_all, predict_tall, write_experiments

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

EARLIER = ("metrics.csv", "config.yaml", "environment.json", "checkpoints/best.ckpt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that ranks have run."""
    path = tmp_path_factory.mktemp("ranks")
    write_experiments(path)
    # An earlier run, so that there is something to put aside before the ranks start.
    (path / "fit" / "checkpoints").mkdir(parents=True)
    for name in EARLIER:
        (path / "fit" / name).write_text("earlier")
    done = run_lightning_of_user(words_of(path, "fit", "fit"), 2, path)
    assert done.returncode == 0, done.stderr[-3000:]
    tall = {case: predict_tall(path, case) for case in ("whole", "one-two", "two-one")}
    cut = {120: ["--trainer.limit_predict_batches", "120"], 50: ["--trainer.limit_predict_batches", "50"]}
    run_ranks([*of_all(path, 1), tall["whole"], [*tall["one-two"], *cut[120]]], 1, path)
    assert not (path / "tall-one-two.zarr" / "tall" / "m0").exists()
    run_ranks([*of_all(path, 2), [*tall["two-one"], *cut[50]], tall["one-two"], accumulated(path, 2, 1)], 2, path)
    assert not (path / "tall-two-one.zarr" / "tall" / "m0").exists()
    run_ranks([tall["two-one"], accumulated(path, 1, 3)], 1, path)
    run_ranks(of_all(path, 3), 3, path)
    run_ranks([words_of(path, "validate", "same5", *best(path))], 5, path)
    return path


def steps_of(run: Path) -> int:
    return int(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"])


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def bytes_of(store: Path) -> dict[Path, bytes]:
    return {path.relative_to(store): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def metrics_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_fit_keeps_the_earlier_run_once(folder: Path) -> None:
    run = folder / "fit"
    assert [path.name for path in (run / "earlier").iterdir()] == ["1"]
    for name in EARLIER:
        assert (run / "earlier" / "1" / name).read_text() == "earlier"
        assert (run / name).is_file()
    # Eight patches over two ranks of two: two steps.
    assert steps_of(run) == 2
    assert set(read_json(run / "scores-validate.json")["mosaics"]) == {"val/m0", "val/m1"}
    # Under DDP gradients are taken of the network and not of the wrapper that would reduce them.
    assert (run / "attribution" / "points-fit.csv").is_file()


@pytest.mark.parametrize("other", ["fit2", "fit3", "accumulated1", "accumulated2"])
def test_weights_agree_to_rounding_at_one_global_batch(folder: Path, other: str) -> None:
    one, several = (weights(folder / name / "checkpoints" / "last.ckpt") for name in ("fit1", other))
    assert steps_of(folder / "fit1") == steps_of(folder / other) == 2 * 18 // GLOBAL_BATCH
    moved = 0.0
    for name, weight in one.items():
        # Chosen on whole mosaics in one fit and on tiles in the other.
        if name != "threshold" or other.startswith("fit"):
            torch.testing.assert_close(several[name], weight, rtol=2e-4, atol=2e-5)
        moved = max(moved, float(weight.std()) if weight.ndim > 1 else 0.0)
    assert moved > 0.05


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("left", ["five-left", "one-left"])
def test_unequally_shared_last_step_is_the_same(folder: Path, left: str, ranks: int) -> None:
    runs = [folder / f"{left}{n}" for n in (1, ranks)]
    assert steps_of(runs[0]) == steps_of(runs[1]) == 2 * 2
    one, several = (weights(run / "checkpoints" / "last.ckpt") for run in runs)
    for name, weight in one.items():
        if name != "threshold":
            torch.testing.assert_close(several[name], weight, rtol=2e-5, atol=2e-6)
    losses = [[float(row["train/loss_epoch"]) for row in metrics_of(run) if row["train/loss_epoch"]] for run in runs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert len(losses[0]) == 2


@pytest.mark.parametrize("ranks", [2, 3])
def test_scores_of_last_validation_agree(folder: Path, ranks: int) -> None:
    one, several = (read_json(folder / f"fit{n}" / "scores-validate.json") for n in (1, ranks))
    assert set(one["mosaics"]) == set(several["mosaics"]) == {"val/m0", "val/m1"}
    for key in one["mosaics"]:
        mine, theirs = (
            [scores["mosaics"][key][name] for name in ("tp", "fp", "fn", "tn")] for scores in (one, several)
        )
        # Rounded weights move a few pixels across the threshold, and none is lost or counted twice.
        assert sum(mine) == sum(theirs)
        assert max(abs(a - b) for a, b in zip(mine, theirs, strict=True)) <= 0.01 * sum(mine)


@pytest.mark.parametrize("ranks", [2, 3])
def test_classes_on_planes_are_learnt_alike(folder: Path, ranks: int) -> None:
    one, several = (folder / f"classes-fit{n}" for n in (1, ranks))
    mine, theirs = (weights(run / "checkpoints" / "last.ckpt") for run in (one, several))
    for name, weight in mine.items():
        torch.testing.assert_close(theirs[name], weight, rtol=2e-4, atol=2e-5)
    for column in ("val_tiles/f1", "val_tiles/loss", "val/iou"):
        values = [[float(row[column]) for row in metrics_of(run) if row[column]] for run in (one, several)]
        # In every epoch, and on whole mosaics in the last of two.
        assert len(values[0]) == (1 if column == "val/iou" else 2)
        assert values[1] == pytest.approx(values[0], abs=0.01)
    scores = read_json(folder / f"classes{ranks}" / "scores-test.json")["mosaics"]
    assert set(scores) == {"test/cube", "test/image", "test/stack"}
    assert {f"{of}_assd_nm" for of in ("mean", "mito", "golgi")} < set(scores["test/cube"])


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("name", ["last", "same", "tiny", "classes"])
def test_files_of_same_weights_agree_to_bit(folder: Path, name: str, ranks: int) -> None:
    found = differences(folder / f"{name}1", folder / f"{name}{ranks}")
    assert {file: value for file, value in found.items() if value} == {}


def test_scores_and_error_maps_are_of_all_mosaics(folder: Path) -> None:
    scores = read_json(folder / "same3" / "scores-test.json")
    assert len(scores["mosaics"]) == 3
    assert {"v_rand", "assd_nm"} <= set(scores["mosaics"]["test/m0"])
    assert len(read_json(folder / "same3" / "errors-test" / "index.json")["mosaics"]) == 3
    assert len(read_json(folder / "same3" / "errors-validate" / "index.json")["mosaics"]) == 2
    figures = {path.name for path in (folder / "same3" / "figures").iterdir()}
    assert {f"validate-val-m{n}.png" for n in range(2)} | {f"test-test-m{n}.png" for n in range(3)} <= figures


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("name", ["p", "classes-p"])
def test_predictions_agree_byte_by_byte(folder: Path, name: str, ranks: int) -> None:
    one, several = (bytes_of(folder / f"{name}{n}.zarr") for n in (1, ranks))
    assert set(one) == set(several)
    assert [path for path in one if one[path] != several[path]] == []


def test_prediction_goes_on_with_other_ranks(folder: Path) -> None:
    whole = bytes_of(folder / "tall-whole.zarr")
    assert bytes_of(folder / "tall-one-two.zarr") == whole
    assert bytes_of(folder / "tall-two-one.zarr") == whole


@pytest.mark.parametrize("ranks", [2, 3])
def test_rank_without_work_does_not_hang(folder: Path, ranks: int) -> None:
    assert (folder / f"tiny{ranks}.zarr" / "tiny" / "m0" / "zarr.json").is_file()
    assert list(read_json(folder / f"tiny{ranks}" / "scores-test.json")["mosaics"]) == ["tiny/m0"]


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_ranks_make_the_attribution_table_of_one_process(folder: Path, ranks: int) -> None:
    one, several = (folder / f"same{n}" / "attribution" for n in (1, ranks))
    for name in ("points-validate.csv", "summary-validate.csv"):
        content = (one / name).read_text()
        assert len(content.splitlines()) >= 10
        assert (several / name).read_text() == content
    errors = [read_json(out / "validate.json")["fast_against_exact"] for out in (one, several)]
    assert errors[0] == errors[1]
    assert errors[0]["pixels"] == 7
    # Fewer than ranks.
    assert read_json(folder / "last3" / "attribution" / "validate.json")["fast_against_exact"]["pixels"] == 1


@pytest.mark.parametrize("tiles", ["one-tile", "two-tiles"])
@pytest.mark.parametrize("ranks", [2, 3])
def test_fewer_tiles_than_ranks_are_each_counted_once(folder: Path, tiles: str, ranks: int) -> None:
    one, several = (folder / f"{tiles}{n}" for n in (1, ranks))
    rows = [[row for row in metrics_of(run) if row["val_tiles/f1"]] for run in (one, several)]
    assert len(rows[0]) == len(rows[1]) == 2
    columns = [name for name in rows[0][0] if name.startswith("val_tiles/")]
    assert len(columns) == 9
    for mine, theirs in zip(*rows, strict=True):
        assert {name: mine[name] for name in columns} == {name: theirs[name] for name in columns}
    pictures = [(run / "figures" / "validation.png").read_bytes() for run in (one, several)]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("ranks", [2, 3])
def test_rank_0_alone_writes_and_speaks(folder: Path, ranks: int) -> None:
    names = ("fit", "last", "same", "tiny", "one-tile", "two-tiles")
    files = [path for name in names for path in (folder / f"{name}{ranks}").rglob("*") if path.is_file()]
    of_others = {path.relative_to(folder) for path in files if path.stat().st_mode & 0o777 != 0o644}
    # Errors of a mosaic are written by the rank that looks for them.
    assert {re.sub("-.*", "", path.parts[1]) for path in of_others} == {"errors"}
    assert not any(path.name == "index.json" for path in of_others)
    said = [(folder / f"rank{rank}-of-{ranks}.log").read_text() for rank in range(ranks)]
    assert "val/m0" in said[0]
    assert "scores-validate.json" in said[0]
    for text in said[1:]:
        kept = [line for line in text.splitlines() if line and not re.search("Seed set|GLOBAL_RANK|Warning", line)]
        assert [line for line in kept if re.search("val/m|scores-|GPU available|predictions", line)] == []


def test_the_table_of_exactness(folder: Path) -> None:
    rows: dict[str, list[float]] = {}
    for ranks in (2, 3):
        fits, same = (differences(folder / f"{name}1", folder / f"{name}{ranks}") for name in ("fit", "same"))
        kinds = {f"fit: {name}": value for name, value in by_kind(fits).items()}
        kinds |= {f"same weights: {name}": value for name, value in by_kind(same).items()}
        kinds["same weights: prediction"] = max(differences(folder / "p1.zarr", folder / f"p{ranks}.zarr").values())
        for name, value in kinds.items():
            rows.setdefault(name, []).append(value)
    print("\n" + table("artefact, largest difference from 1 rank", rows))
    assert all(len(values) == 2 for values in rows.values())
