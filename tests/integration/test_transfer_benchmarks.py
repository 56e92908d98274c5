"""Transfer benchmarks from their published files to the table: converted, trained from two starts, tested, collected.

Only sizes differ from what the documentation says: small files, a small encoder and two steps.
"""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from data_modules.store import MosaicStore
from lightning_emseg import cli
from lightning_emseg.commands import main
from tests.support import EXPERIMENTS, smp_files, tiny

pytestmark = pytest.mark.slow
FOLDER = EXPERIMENTS / "cem500k"
SMALL = (
    *("--model.encoder", tiny.ENCODER, "--model.lr_scheduler.init_args.total_steps", "2"),
    *("--data.patch_size", "64", "--data.tile_size", "64", "--data.augment.size", "64", "--data.overlap", "0.0"),
    *("--data.batch_size", "2", "--data.patches_per_epoch", "4", "--data.num_workers", "0", "--data.val_tiles", "2"),
    *("--trainer.max_steps", "2", "--trainer.accelerator", "cpu", "--trainer.precision", "32-true"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
)


def squares(seed: int, shape: tuple[int, ...], values: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Blocks of 16 px of random classes."""
    coarse = np.random.default_rng(seed).integers(0, values, [-(-side // 16) for side in shape], dtype=np.uint8)
    for axis in range(len(shape)):
        coarse = np.repeat(coarse, 16, axis=axis)
    return coarse[tuple(slice(side) for side in shape)]


def write_guay(root: Path) -> None:
    for seed, (name, depth) in enumerate({"train": 2, "eval": 1, "test": 2}.items()):
        labels = squares(seed, (depth, 64, 80), 7)
        tifffile.imwrite(root / f"{name}-images.tif", labels.astype(np.int16) * 100, photometric="minisblack")
        tifffile.imwrite(root / f"{name}-labels.tif", labels.astype(np.uint16), photometric="minisblack")


def write_urocell(root: Path) -> None:
    for seed, name in enumerate(("fib1-0-0-0", "fib1-1-0-3", "fib1-3-2-1", "fib1-3-3-0", "fib1-4-3-0")):
        classes = squares(seed, (64, 64 + (12, 54, 0, 0, 0)[seed], 64), 3)
        for folder, pixels in (("data", classes * 80), ("lyso", classes == 1), ("mito", classes == 2)):
            (root / folder).mkdir(exist_ok=True)
            image = nibabel.Nifti1Image(pixels.astype(np.uint8), np.eye(4))
            image.to_filename(root / folder / f"{name}.nii.gz")


def write_perez(root: Path) -> None:
    for images, labels in (("training_images", "training_labels"), ("test_images", "ground_truth")):
        for number in range(2):
            mask = squares(number + 1, (70, 64), 2) * np.uint8(255)
            for folder, pixels in ((images, mask // 2), (labels, mask)):
                path = root / folder / "mitochondria" / f"x.{number:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)


BENCHMARKS: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "guay": (write_guay, [], "canalicular vessel_iou"),
    "urocell": (write_urocell, [], "mean_iou"),
    "perez": (write_perez, ["--organelle", "mitochondria", "--pixel-size-nm", "10"], "labelled_objects_iou_at_0.5"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_runs_from_files_to_the_table(name: str, tmp_path: Path) -> None:
    write, options, column = BENCHMARKS[name]
    (tmp_path / "files").mkdir()
    write(tmp_path / "files")
    store = tmp_path / ("perez-mitochondria.zarr" if name == "perez" else f"{name}.zarr")
    main(["data", "convert", name, "--root", str(tmp_path / "files"), "--out", str(store), *options])
    encoder = smp_files.write_moco(tmp_path / "cem500k_small.pth.tar", tiny.ENCODER)
    for start, words in (
        ("moco", ["--model.encoder_weights", str(encoder)]),
        ("random", ["--config", str(FOLDER / "start" / "random_frozen.yaml")]),
    ):
        run = ["--trainer.default_root_dir", str(tmp_path / start), "--data.store", str(store)]
        cli.main(
            [
                "fit",
                "--config",
                str(FOLDER / "lucchi.yaml"),
                "--config",
                str(FOLDER / f"{name}.yaml"),
                *words,
                *SMALL,
                *run,
            ]
        )
        cli.main(["test", "--config", str(tmp_path / start / "config.yaml")])
        scores = json.loads((tmp_path / start / "scores-test.json").read_text())
        tested = [sample.key for sample in MosaicStore(store).samples("test")]
        assert list(scores["mosaics"]) == tested
        assert all(column in row for row in scores["mosaics"].values())
        model = yaml.safe_load((tmp_path / start / "config.yaml").read_text())["model"]["init_args"]
        assert model["orthoplane"] is (name == "urocell")
    runs = [str(tmp_path / start) for start in ("moco", "random")]
    main(["transfer-table", *runs, "--out", str(tmp_path / "table")])
    table = json.loads((tmp_path / "table" / "table.json").read_text())
    assert {each["folder"] for each in table["runs"]} == set(runs)
    benchmark = "perez-mitochondria" if name == "perez" else name
    filled = {(cell["benchmark"], cell["initialisation"]) for cell in table["cells"] if cell["n"]}
    assert {(benchmark, "cem500k-moco"), (benchmark, "random-frozen")} <= filled
