"""Two processes (gloo, CPU) give what one gives: the same scores and the same bytes of the prediction."""

import json
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from ranks import lightning

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

# The first mosaic is two rows of shards high, so that two ranks share it; the others belong to one rank each.
SHAPES = {
    "train": ((70, 80),),
    "val": ((70, 66), (64, 64)),
    "test": ((2100, 70), (50, 40), (90, 61)),
    "tall": ((7000, 70),),
    "tiny": ((64, 64),),
}

EARLIER = ("metrics.csv", "config.yaml", "environment.json", "checkpoints/best.ckpt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranks")
    tiny.make_store(path / "s.zarr", SHAPES)
    # Each mosaic is measured by one of the ranks.
    metrics = [{"class_path": "VRand"}, {"class_path": "SurfaceDistances"}]
    sizes = {"base_channels": 4, "depth": 2, "blend": "gaussian", "metrics": metrics}
    data = {"store": str(path / "s.zarr"), "patch_size": 64, "batch_size": 2, "patches_per_epoch": 8}
    trainer = {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False, "enable_model_summary": False}
    content = {
        "model": {"class_path": "VanillaUNet", "init_args": sizes},
        "data": {"class_path": "Mosaic", "init_args": data},
        "trainer": trainer,
    }
    (path / "e.yaml").write_text(yaml.safe_dump(content))
    # An earlier run, so that there is something to put aside before the ranks start.
    (path / "fit" / "checkpoints").mkdir(parents=True)
    for name in EARLIER:
        (path / "fit" / name).write_text("earlier")
    lightning(path, "fit", "fit", 2)
    return path


def test_fit_keeps_the_earlier_run_once(folder: Path) -> None:
    run = folder / "fit"
    assert [path.name for path in (run / "earlier").iterdir()] == ["1"]
    for name in EARLIER:
        assert (run / "earlier" / "1" / name).read_text() == "earlier"
        assert (run / name).is_file()
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    # Eight patches over two ranks of two: two steps.
    assert checkpoint["global_step"] == 2
    scores = json.loads((run / "scores-validate.json").read_text())
    assert set(scores["mosaics"]) == {"val/m0", "val/m1"}


def test_two_ranks_score_and_predict_like_one(folder: Path) -> None:
    best = ["--ckpt_path", str(folder / "fit" / "checkpoints" / "best.ckpt")]
    for ranks in (1, 2):
        lightning(folder, "test", f"run{ranks}", ranks, *best)
        lightning(folder, "predict", f"run{ranks}", ranks, *best, "--writer.out", str(folder / f"p{ranks}.zarr"))
    one, two = (json.loads((folder / f"run{ranks}" / "scores-test.json").read_text()) for ranks in (1, 2))
    assert one == two
    assert len(one["mosaics"]) == 3
    assert {"v_rand", "assd_nm"} <= set(one["mosaics"]["test/m0"])
    errors = [json.loads((folder / f"run{ranks}" / "errors-test" / "index.json").read_text()) for ranks in (1, 2)]
    assert errors[0] == errors[1]
    assert len(errors[0]["mosaics"]) == 3
    files = [
        {path.relative_to(folder / f"p{ranks}.zarr"): path.read_bytes() for path in _files(folder / f"p{ranks}.zarr")}
        for ranks in (1, 2)
    ]
    assert set(files[0]) == set(files[1])
    assert [path for path in files[0] if files[0][path] != files[1][path]] == []


def test_a_prediction_goes_on_with_another_number_of_ranks(folder: Path) -> None:
    run = ["--ckpt_path", str(folder / "fit" / "checkpoints" / "best.ckpt"), "--data.predict_split", "tall"]
    stores = []
    for ranks, batches in ((1, 0), (1, 120), (2, 50)):
        out = folder / f"tall-{ranks}-{batches}.zarr"
        if batches:
            cut = ["--trainer.limit_predict_batches", str(batches)]
            lightning(folder, "predict", "cut", ranks, *run, *cut, "--writer.out", str(out))
            assert not (out / "tall" / "m0").exists()
        lightning(folder, "predict", "cut", 3 - ranks if batches else 1, *run, "--writer.out", str(out))
        stores.append({path.relative_to(out): path.read_bytes() for path in _files(out)})
    assert stores[0] == stores[1] == stores[2]


def test_a_rank_without_work_does_not_hang_the_others(folder: Path) -> None:
    best = ["--ckpt_path", str(folder / "fit" / "checkpoints" / "best.ckpt")]
    out = folder / "tiny.zarr"
    lightning(folder, "predict", "tiny", 2, *best, "--data.predict_split", "tiny", "--writer.out", str(out))
    assert (out / "tiny" / "m0" / "zarr.json").is_file()
    lightning(folder, "test", "tiny", 2, *best, "--data.test_split", "tiny")
    assert list(json.loads((folder / "tiny" / "scores-test.json").read_text())["mosaics"]) == ["tiny/m0"]


def _files(store: Path) -> list[Path]:
    return [path for path in store.rglob("*") if path.is_file()]
