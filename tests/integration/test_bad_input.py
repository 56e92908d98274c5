"""Mistakes of the user end with one message that names file, sample or key, and without a traceback."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import yaml
from zarr import open_group

from lightning_emseg import cli
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import tiny

MESSAGES: dict[str, str] = {}


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    """Print all messages, for people to judge (`pytest -s`)."""
    yield
    width = max(map(len, MESSAGES), default=0)
    print("\n" + "\n".join(f"{case.ljust(width)}  {message}" for case, message in MESSAGES.items()))


def _experiment(folder: Path, store: Path, model: str = "VanillaUNet", **data: object) -> Path:
    sizes = {"base_channels": 4, "depth": 2} if model == "VanillaUNet" else {"encoder": tiny.ENCODER}
    options: dict[str, object] = {"store": str(store), "patch_size": 64, "batch_size": 2, "patches_per_epoch": 4}
    content = {
        "model": {"class_path": model, "init_args": sizes},
        "data": {"class_path": "Mosaic", "init_args": {**options, **data}},
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": str(folder / "run"),
        },
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _refused(case: str, capsys: pytest.CaptureFixture[str], verb: str, config: Path, *more: str) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main([verb, "--config", str(config), *more])
    written = capsys.readouterr().err
    message = caught.value.code if isinstance(caught.value.code, str) else written
    assert caught.value.code not in (0, None)
    assert "Traceback" not in message + written
    assert len(message) < 900, message
    MESSAGES[case] = message.strip()
    return message


def _with_weights(config: Path) -> Path:
    """Put an untrained checkpoint into the run folder, so that evaluation gets as far as the data."""
    folder = Path(yaml.safe_load(config.read_text())["trainer"]["default_root_dir"])
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(VanillaUNet(base_channels=4, depth=2))
    trainer.save_checkpoint(folder / "checkpoints" / "best.ckpt")
    return config


def _store(folder: Path, **splits: tuple[tuple[int, int], ...]) -> Path:
    tiny.make_store(folder / "s.zarr", splits)
    return folder / "s.zarr"


def test_missing_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = _refused("missing store", capsys, "fit", _experiment(tmp_path, tmp_path / "none.zarr"))
    assert str(tmp_path / "none.zarr") in message


def test_folder_that_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = _refused("no store", capsys, "fit", _experiment(tmp_path, tmp_path))
    assert "zarr.json" in message


def test_missing_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = _store(tmp_path, train=((80, 80),))
    message = _refused("missing split", capsys, "fit", _experiment(tmp_path, store))
    assert "no split 'val'; it has: train" in message
    message = _refused("missing test split", capsys, "test", _with_weights(_experiment(tmp_path, store)))
    assert "no split 'test'" in message


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_random_weights_are_not_scored(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    message = _refused(f"no weights, {verb}", capsys, verb, _experiment(tmp_path, tiny_store))
    assert "pass --ckpt_path" in message
    assert str(tmp_path / "run" / "checkpoints" / "best.ckpt") in message


def test_empty_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = _store(tmp_path, train=((80, 80),))
    open_group(store / "val", mode="w", zarr_format=3)
    message = _refused("empty split", capsys, "fit", _experiment(tmp_path, store))
    assert "split 'val'" in message
    assert "is empty" in message


def test_missing_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = _store(tmp_path, train=((80, 80),), val=((80, 80),))
    message = _refused("missing label", capsys, "fit", _experiment(tmp_path, store, label="nuclei"))
    assert "train/m0 has no label 'nuclei'; it has: membrane" in message


def test_mosaic_below_the_patch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = _store(tmp_path, train=((80, 80), (50, 90)), val=((80, 80),))
    config = _experiment(tmp_path, store)
    message = _refused("small mosaic", capsys, "fit", config)
    assert "train/m1 (50, 90)" in message
    assert "--data.allow_small true" in message
    cli.main(["fit", "--config", str(config), "--data.allow_small", "true", "--trainer.fast_dev_run", "true"])


def test_mask_without_foreground(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = _store(tmp_path, val=((80, 80),))
    tiny.write_sample(store, "train/blank", np.zeros((80, 80), np.uint8), np.zeros((80, 80), np.uint8))
    config = _experiment(tmp_path, store)
    message = _refused("no foreground", capsys, "fit", config)
    assert "train/blank" in message
    assert "--data.allow_empty true" in message
    cli.main(["fit", "--config", str(config), "--data.allow_empty", "true", "--trainer.fast_dev_run", "true"])


def test_patch_that_does_not_suit_the_network(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _experiment(tmp_path, tiny_store, patch_size=50)
    message = _refused("wrong patch size", capsys, "fit", config)
    assert "multiples of 4 px, not 50" in message
    assert "data.patch_size" in message


def test_wrong_channels(tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _experiment(tmp_path, tiny_store)
    message = _refused("wrong channels", capsys, "fit", config, "--model.in_channels", "3")
    assert "--model.in_channels 1" in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data.patch_size", "0"], "error: data.patch_size must be at least 1, got 0"),
        (["--data.overlap", "1.5"], "error: data.overlap must be at least 0 and below 1, got 1.5"),
        (
            ["--data.split", "data_modules.patches.splits.RegionSplit", "--data.split.val_fraction", "2"],
            "error: RegionSplit: val_fraction must lie between 0 and 1, got 2.0",
        ),
        (["--model", "SmpModel", "--model.architecture", "Nonsense"], "error: model.architecture Nonsense"),
    ],
)
def test_values_that_a_class_refuses(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    message = _refused(" ".join(arguments[-2:]), capsys, "fit", _experiment(tmp_path, tiny_store), *arguments)
    assert message.startswith(expected)


@pytest.mark.parametrize(
    ("part", "key", "wrong"),
    [
        ("model", "base_channels", "base_chanels"),
        ("data", "overlap", "overlapp"),
        ("trainer", "max_epochs", "max_epoch"),
    ],
)
def test_misspelt_key(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, key: str, wrong: str
) -> None:
    config = _experiment(tmp_path, tiny_store, overlap=0.5)
    config.write_text(config.read_text().replace(f"{key}:", f"{wrong}:"))
    message = _refused(f"misspelt {part} key", capsys, "fit", config)
    assert wrong in message


def test_unknown_encoder(tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _experiment(tmp_path, tiny_store, "UNet")
    message = _refused("unknown encoder", capsys, "fit", config, "--model.encoder", "resnet5o")
    assert "model.encoder 'resnet5o'" in message


def test_unknown_class(tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _experiment(tmp_path, tiny_store)
    config.write_text(config.read_text().replace("VanillaUNet", "VanilaUNet"))
    assert "VanilaUNet" in _refused("unknown class", capsys, "fit", config)


def test_missing_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "gone.yaml" in _refused("missing config", capsys, "fit", tmp_path / "gone.yaml")


def test_checkpoints_that_do_not_fit(tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _with_weights(_experiment(tmp_path, tiny_store))
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    other = ["--model", "LinkNet", "--model.encoder", tiny.ENCODER, "--ckpt_path", str(best)]
    for verb in ("test", "fit"):
        message = _refused(f"other architecture, {verb}", capsys, verb, config, *other)
        assert "is of VanillaUNet and does not fit the configured LinkNet" in message
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(best.read_bytes()[:3000])
    # Read before anything is made, for all verbs alike.
    for case, verb, path in (("missing", "fit", tmp_path / "gone.ckpt"), ("truncated", "test", cut)):
        message = _refused(f"{case} checkpoint", capsys, verb, config, "--ckpt_path", str(path))
        assert str(path) in message
    message = _refused("start_from missing", capsys, "fit", config, "--model.start_from", str(tmp_path / "gone.ckpt"))
    assert str(tmp_path / "gone.ckpt") in message


def _damage(store: Path, key: str, array: str) -> Path:
    shard = next(path for path in sorted((store / key / array / "c").rglob("*")) if path.is_file())
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 0xFF
    shard.write_bytes(content)
    return shard


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_damaged_shard_in_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int) -> None:
    store = _store(tmp_path, train=((80, 80),), val=((80, 80),))
    _damage(store, "train/m0", "0")
    config = _experiment(tmp_path, store, num_workers=workers)
    message = _refused(f"damaged shard, {workers} workers", capsys, "fit", config)
    assert "image of train/m0: stored data is damaged in region" in message
    assert str(store / "train" / "m0" / "0") in message


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_lost_shard_in_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    store = _store(tmp_path, train=((80, 80),), val=((80, 80),), test=((80, 80),))
    split = "val" if verb == "validate" else "test"
    next(p for p in (store / split / "m0" / "labels" / "membrane" / "0" / "c").rglob("*") if p.is_file()).unlink()
    message = _refused(f"lost shard, {verb}", capsys, verb, _with_weights(_experiment(tmp_path, store)))
    assert f"label 'membrane' of {split}/m0: stored data is missing in region" in message
