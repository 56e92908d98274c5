"""What one, two and three ranks are asked to do: experiments and commands."""

from pathlib import Path
from typing import Any

import yaml

from tests.support import class_runs, tiny
from tests.support.processes import words_of

GLOBAL_BATCH = 6
SHAPES = {
    # Mosaics and tiles that do not divide by the ranks; three ranks have no mosaic each to measure in a validation.
    "train": ((90, 80), (70, 66)),
    "val": ((90, 130), (70, 66)),
    # The first mosaic is two rows of shards high, so that two ranks share it; the others belong to one rank each.
    "test": ((2100, 70), (50, 40), (90, 61)),
    "tall": ((7000, 70),),
    "tiny": ((64, 64),),
}
EVEN, THICK = (4.0, 4.0, 4.0), (40.0, 4.0, 4.0)
CLASSES: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "train/cube": ((34, 36, 33), EVEN),
    "train/image": ((70, 66), EVEN[1:]),
    "val/cube": ((40, 34, 30), EVEN),
    "val/image": ((50, 66), EVEN[1:]),
    # Images and volumes of two and three rows of shards, which ranks share.
    "test/cube": ((70, 40, 36), EVEN),
    "test/image": ((2100, 70), EVEN[1:]),
    "test/stack": ((5, 40, 36), THICK),
}
ONE_MOSAIC = {"train": ((64, 64),), "val": ((64, 64),)}
TRAINER = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "deterministic": True}
# Each mosaic is measured by one of the ranks.
METRICS = [{"class_path": "VRand"}, {"class_path": "SurfaceDistances"}]


def fields(**settings: int) -> dict[str, Any]:
    method = {"class_path": "IntegratedGradients", "init_args": {"steps": 3, "reach": 9}}
    common = {"method": method, "window": 64, "max_share": None, "every_n_epochs": 1}
    return {"class_path": "AttributionFields", "init_args": {**common, **settings}}


def write_experiments(path: Path) -> None:
    """``e.yaml`` scores and predicts, ``t.yaml`` trains, ``c.yaml`` validates a tile or two, ``k.yaml`` has classes."""
    tiny.make_store(path / "s.zarr", SHAPES)
    tiny.make_store(path / "one.zarr", ONE_MOSAIC)
    unet = {"base_channels": 4, "depth": 2, "blend": "gaussian", "metrics": METRICS}
    # Seven exact fields and a few groups: ranks get unequal shares.
    many = fields(per_outcome=5, windows=2, check=7)
    write(path / "e.yaml", path / "s.zarr", "VanillaUNet", unet, {"patch_size": 64, "patches_per_epoch": 8}, [many], 1)
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}}
    augment = {"class_path": "data_modules.augment.images.Augment"}
    data = {"patch_size": 48, "patches_per_epoch": 18, "augment": augment, "seed": 3, "full_validation_every": 1}
    convolution = {"optimizer": sgd, "metrics": METRICS}
    # Fewer fields than ranks.
    few = fields(per_outcome=1, windows=1, check=1)
    write(path / "t.yaml", path / "s.zarr", "tests.support.tiny.ConvolutionModule", convolution, data, [few], 2)
    still = {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.0}}}
    cheap = {"patch_size": 32, "patches_per_epoch": 6, "full_validation_every": 0, "eval_batch_size": 1}
    write(path / "c.yaml", path / "one.zarr", "tests.support.tiny.ConvolutionModule", still, cheap, [], 2)
    class_runs.make_store(path / "k.zarr", CLASSES)
    names = list(class_runs.NAMES)
    loss = {"class_path": "lightning_emseg.losses.CrossEntropyLoss", "init_args": {"weights": [0.3, 1.0, 3.0]}}
    metrics = [{"class_path": "LabelledObjectsIoU"}, {"class_path": "SurfaceDistances"}]
    several = {"optimizer": sgd, "classes": names, "orthoplane": True, "loss": loss, "metrics": metrics}
    several["blend"] = "gaussian"
    planes: dict[str, Any] = {
        "label": "organelles",
        "classes": names,
        "planes": "orthogonal",
        "augment": augment,
        "seed": 3,
    }
    sizes: dict[str, Any] = {"patch_size": 24, "patches_per_epoch": 18, "full_validation_every": 2, "val_tiles": 7}
    sizes |= {"tile_size": 40, "overlap": 0.25}
    write(
        path / "k.yaml",
        path / "k.zarr",
        "tests.support.class_runs.ClassConvolutions",
        several,
        {**planes, **sizes},
        [],
        2,
    )


def write(
    path: Path, store: Path, model: str, sizes: dict[str, Any], data: dict[str, Any], callbacks: list[Any], epochs: int
) -> None:
    content = {
        "model": {"class_path": model, "init_args": sizes},
        "data": {"class_path": "Mosaic", "init_args": {"store": str(store), "batch_size": 2, **data}},
        "trainer": {**TRAINER, "max_epochs": epochs, "callbacks+": callbacks},
    }
    path.write_text(yaml.safe_dump(content))


def best(path: Path) -> list[str]:
    return ["--ckpt_path", str(path / "fit" / "checkpoints" / "best.ckpt")]


def of_all(path: Path, ranks: int) -> list[list[str]]:
    """What every number of ranks does: a fit, all verbs with the same weights, and work for fewer ranks."""
    batch = ["--data.batch_size", str(GLOBAL_BATCH // ranks)]
    last = ["--ckpt_path", str(path / "fit1" / "checkpoints" / "last.ckpt"), "--data.batch_size", "2"]
    # The last step of an epoch has five patches, so that ranks have unequal shares, or one, so that others have none.
    rest = [*batch, "--data.full_validation_every", "0", "--trainer.callbacks", "[]"]
    of_classes = ["--ckpt_path", str(path / "classes-fit1" / "checkpoints" / "last.ckpt"), "--data.batch_size", "2"]
    of_tiny = ["--data.predict_split", "tiny", "--writer.out", str(path / f"tiny{ranks}.zarr")]
    return [
        words_of(path, "fit", f"fit{ranks}", *batch, experiment="t.yaml"),
        words_of(path, "fit", f"five-left{ranks}", *rest, "--data.patches_per_epoch", "11", experiment="t.yaml"),
        words_of(path, "fit", f"one-left{ranks}", *rest, "--data.patches_per_epoch", "7", experiment="t.yaml"),
        words_of(path, "validate", f"last{ranks}", *last, experiment="t.yaml"),
        words_of(path, "validate", f"same{ranks}", *best(path)),
        words_of(path, "test", f"same{ranks}", *best(path)),
        words_of(path, "predict", f"same{ranks}", *best(path), "--writer.out", str(path / f"p{ranks}.zarr")),
        words_of(path, "predict", f"tiny{ranks}", *best(path), *of_tiny),
        words_of(path, "test", f"tiny{ranks}", *best(path), "--data.test_split", "tiny"),
        words_of(path, "fit", f"classes-fit{ranks}", *batch, experiment="k.yaml"),
        words_of(path, "test", f"classes{ranks}", *of_classes, experiment="k.yaml"),
        words_of(path, "predict", f"classes{ranks}", *of_classes, *classes_out(path, ranks), experiment="k.yaml"),
        words_of(path, "fit", f"one-tile{ranks}", *batch, "--data.tile_size", "64", experiment="c.yaml"),
        words_of(path, "fit", f"two-tiles{ranks}", *batch, "--data.tile_size", "[32, 64]", experiment="c.yaml"),
    ]


def classes_out(path: Path, ranks: int) -> list[str]:
    return ["--writer.out", str(path / f"classes-p{ranks}.zarr")]


def accumulated(path: Path, ranks: int, batch: int) -> list[str]:
    """The fit of one rank, in smaller batches."""
    times = GLOBAL_BATCH // batch // ranks
    share = ["--data.batch_size", str(batch), "--trainer.accumulate_grad_batches", str(times)]
    name = f"accumulated{ranks}"
    return words_of(path, "fit", name, *share, "--data.full_validation_every", "0", experiment="t.yaml")


def predict_tall(path: Path, case: str) -> list[str]:
    out = ["--writer.out", str(path / f"tall-{case}.zarr")]
    return words_of(path, "predict", "tall", *best(path), "--data.predict_split", "tall", *out)
