"""The four verbs on `experiments/smoke.yaml`, and what they leave in the run folder."""

import csv
import json
import shutil
from importlib import metadata
from pathlib import Path

import pytest
import torch
import yaml

from data_modules.store import MosaicStore
from lightning_emseg import cli
from tests.support import EXPERIMENTS, tiny

EXPERIMENT = EXPERIMENTS / "smoke.yaml"


def _lightning(verb: str, folder: Path, *more: str) -> None:
    common = ["--config", str(EXPERIMENT), "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
    network = ["--model.encoder", tiny.ENCODER]
    sizes = ["--data.train", "[140x150]", "--data.val", "[100x90]", "--data.test", "[133x97, 50x40]"]
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
    where = ["--data.store", str(folder / "s.zarr"), "--trainer.default_root_dir", str(folder / "run")]
    cli.main([verb, *common, *network, *sizes, *quiet, *where, *more])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a store and of a fit on it; read only."""
    folder = tmp_path_factory.mktemp("smoke")
    _lightning("fit", folder)
    return folder


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    """Copy of the folder, in which further commands may run."""
    return shutil.copytree(trained, tmp_path / "own")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_fit_leaves_a_whole_run_folder(trained: Path) -> None:
    run = trained / "run"
    for name in ("config.yaml", "metrics.csv", "environment.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert (run / name).is_file(), name
    assert (run / "figures" / "validation.png").is_file()
    columns = set(_rows(run / "metrics.csv")[0])
    assert {
        "epoch",
        "step",
        "train/loss_step",
        "train/loss_epoch",
        "val_tiles/f1",
        "val_tiles/loss",
        "val/f1",
    } <= columns
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 1e-3
    assert config["data"]["init_args"]["overlap"] == 0.5
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == "0"
    assert environment["packages"]["torch"] == metadata.version("torch")


def test_full_validation_of_the_last_epoch_is_scored(trained: Path) -> None:
    scores = json.loads((trained / "run" / "scores-validate.json").read_text())
    assert set(scores["mosaics"]) == {"val/synthetic-0"}
    assert scores["se"]["membrane_f1"] is None
    assert "whole mosaics, epoch 1" in scores["criterion"]


def test_validate_test_and_predict(own: Path) -> None:
    run, out = own / "run", own / "p.zarr"
    best = ["--ckpt_path", str(run / "checkpoints" / "best.ckpt")]
    before = (run / "metrics.csv").read_bytes()
    _lightning("validate", own, *best)
    _lightning("test", own, *best)
    _lightning("predict", own, *best, "--writer.out", str(out), "--writer.export", "png")
    assert (run / "metrics.csv").read_bytes() == before
    for verb in ("validate", "test", "predict"):
        assert (run / f"config-{verb}.yaml").is_file()
        assert (run / f"environment-{verb}.json").is_file()
    scores = json.loads((run / "scores-test.json").read_text())
    table = _rows(run / "scores-test.csv")
    assert [row["mosaic"] for row in table] == list(scores["mosaics"]) == ["test/synthetic-0", "test/synthetic-1"]
    for row in table:
        for name, value in scores["mosaics"][row["mosaic"]].items():
            assert value is None or float(row[name]) == value
    assert "mean ± SE" in (run / "scores-test.txt").read_text()
    assert {path.name for path in (run / "figures").glob("test-*")} == {
        "test-test-synthetic-0.png",
        "test-test-synthetic-1.png",
    }
    samples = MosaicStore(out).samples("test")
    assert [sample.image.shape for sample in samples] == [(133, 97), (50, 40)]
    assert samples[0].provenance["checkpoint"] == "best.ckpt"
    assert len(samples[0].provenance["checkpoint_sha256"]) == 64
    assert samples[0].provenance["threshold"] == scores["threshold"]
    assert (own / "p.zarr-png" / "test" / "synthetic-1.png").is_file()

    # The same again is left as it is; with other settings it is refused unless asked for.
    written = (out / "test" / "synthetic-0" / "zarr.json").stat().st_mtime_ns
    _lightning("predict", own, *best, "--writer.out", str(out))
    assert (out / "test" / "synthetic-0" / "zarr.json").stat().st_mtime_ns == written
    other = [*best, "--writer.out", str(out), "--model.blend", "cosine"]
    with pytest.raises(SystemExit) as caught:
        _lightning("predict", own, *other)
    assert "'constant' there, 'cosine' here" in str(caught.value)
    assert "--writer.overwrite true" in str(caught.value)
    _lightning("predict", own, *other, "--writer.overwrite", "true")


def test_predict_without_out_says_so(own: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        _lightning("predict", own)
    assert "--writer.out" in str(caught.value)


def test_resumed_run_goes_on_where_it_stopped(trained: Path, tmp_path: Path) -> None:
    # Two epochs in one go against one epoch, then another from last.ckpt.
    whole = torch.load(trained / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    _lightning("fit", tmp_path, "--trainer.max_epochs", "1")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["epoch"] == 0
    _lightning("fit", tmp_path, "--ckpt_path", str(last))
    resumed = torch.load(last, weights_only=True)
    assert (resumed["epoch"], resumed["global_step"]) == (whole["epoch"], whole["global_step"]) == (1, 8)
    weights = resumed["state_dict"]
    # The full validation at the end of the shortened run may choose another threshold; it is no part of training.
    different = [key for key in whole["state_dict"] if not torch.equal(whole["state_dict"][key], weights[key])]
    assert different == []
    # Its log begins anew, the earlier one is kept, and checkpoints stay where they are.
    assert {path.name for path in (tmp_path / "run" / "earlier" / "1").iterdir()} == {
        "config.yaml",
        "metrics.csv",
        "environment.json",
    }
    assert {row["epoch"] for row in _rows(tmp_path / "run" / "metrics.csv")} == {"1"}


def test_second_fit_puts_the_first_aside(own: Path) -> None:
    first = (own / "run" / "checkpoints" / "best.ckpt").read_bytes()
    (own / "run" / "scores-test.json").write_text("{}")
    _lightning("fit", own, "--trainer.max_epochs", "1", "--seed_everything", "5")
    aside = own / "run" / "earlier" / "1"
    assert (aside / "checkpoints" / "best.ckpt").read_bytes() == first
    assert {"config.yaml", "metrics.csv", "environment.json", "figures", "scores-test.json"} <= {
        path.name for path in aside.iterdir()
    }
    assert not (own / "run" / "scores-test.json").exists()
    assert (own / "run" / "checkpoints" / "best.ckpt").read_bytes() != first
