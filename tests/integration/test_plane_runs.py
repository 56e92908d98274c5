"""Networks of images on a store of volumes and images: fit, test and predict, in stacks and along three directions."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import jaccard_score

from data_modules.store import MosaicStore
from lightning_emseg.commands import main
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.restore import restore
from tests.support import class_runs
from tests.support.class_runs import NAMES, lightning
from tests.support.tiny import Pixels

pytestmark = pytest.mark.slow

THICK, EVEN = (40.0, 4.0, 4.0), (5.0, 4.4, 4.4)
SIZES: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "train/stack": ((24, 48, 48), THICK),
    "train/cube": ((32, 32, 32), EVEN),
    "train/image": ((48, 50), (4.0, 4.0)),
    "val/cube": ((32, 32, 32), EVEN),
    "test/cube": ((32, 32, 32), EVEN),
    "test/image": ((40, 33), (4.0, 4.0)),
    # Of the side of a tile along X and Y, so that a tile is a whole plane.
    "test/stack": ((24, 32, 32), THICK),
}


class Runs:
    """A fit on single planes and one on planes of three directions, and what they predict; read only, please."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.truth = class_runs.make_store(folder / "s.zarr", SIZES)
        for planes in ("xy", "orthogonal"):
            of_planes = folder / planes
            of_planes.mkdir()
            lightning("fit", of_planes, self.config(planes))
        for name, planes, orthoplane in [("stack", "xy", False), ("orthoplane", "orthogonal", True)]:
            config = self.config(planes, orthoplane=orthoplane)
            lightning("test", folder / planes, config)
            lightning("predict", folder / planes, config, "--writer.out", str(folder / f"{name}.zarr"))

    def config(self, planes: str, **model: Any) -> dict[str, Any]:
        augment = {"class_path": "data_modules.augment.images.Augment"}
        data = {"planes": planes, "augment": augment, "val_tiles": 8, "eval_batch_size": 2, "overlap": 0.0}
        return class_runs.experiment(self.folder / "s.zarr", {**data, "full_validation_every": 2}, model)

    def checkpoint(self, planes: str) -> Path:
        return self.folder / planes / "run" / "checkpoints" / "best.ckpt"

    def scores(self, planes: str, verb: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / planes / "run" / f"scores-{verb}.json").read_text())
        return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("volumes"))


def of_image(module: SegmentationMixin, image: Pixels) -> NDArray[np.float32]:
    """Probabilities ``(K, Y, X)`` of one image by the bare network."""
    scaled = (torch.from_numpy(image.astype(np.float32)) - 127.5) / 127.5
    found: NDArray[np.float32] = torch.softmax(module.network(scaled[None, None]), dim=1)[0].numpy()
    return found


def stacked(module: SegmentationMixin, volume: Pixels) -> NDArray[np.float32]:
    return np.stack([of_image(module, plane) for plane in volume], axis=1)


def in_three_directions(module: SegmentationMixin, volume: Pixels) -> NDArray[np.float32]:
    """Of a cube."""
    total = np.zeros((len(NAMES), *volume.shape), np.float32)
    for at in range(len(volume)):
        total[:, at] += of_image(module, volume[at])
        total[:, :, at] += of_image(module, volume[:, at])
        total[:, :, :, at] += of_image(module, volume[:, :, at])
    total /= 3
    return total


def assert_predicted(out: Path, key: str, expected: NDArray[np.float32]) -> None:
    probability, mask = class_runs.predicted(out, key)
    first, second = np.sort(expected, axis=0)[[-1, -2]]
    sure = first - second > 1e-5
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(mask[sure], expected.argmax(axis=0)[sure])
    assert np.abs(probability - 255 * (1 - expected[0])).max() <= 0.501


@pytest.mark.parametrize("planes", ["xy", "orthogonal"])
def test_fits_on_planes_score_whole_volumes(runs: Runs, planes: str) -> None:
    assert set(runs.scores(planes, "validate")["mosaics"]) == {"val/cube"}
    assert (runs.folder / planes / "run" / "figures" / "validation.png").is_file()
    assert (runs.folder / planes / "run" / "figures" / "test-test-image.png").is_file()
    assert not (runs.folder / planes / "run" / "figures" / "test-test-cube.png").exists()


@pytest.mark.parametrize(("planes", "out"), [("xy", "stack"), ("orthogonal", "orthoplane")])
def test_scores_are_of_the_voxels_that_are_written(runs: Runs, planes: str, out: str) -> None:
    scores = runs.scores(planes, "test")["mosaics"]
    assert list(scores) == ["test/cube", "test/image", "test/stack"]
    for key, row in scores.items():
        truth, mask = runs.truth[key][1], class_runs.predicted(runs.folder / f"{out}.zarr", key)[1]
        used = truth != 255
        for value, name in enumerate(NAMES):
            expected = jaccard_score(truth[used] == value, mask[used] == value, zero_division=1.0)
            assert row[f"{name}_iou"] == pytest.approx(expected, abs=1e-12)


@torch.no_grad()
def test_stacks_are_predicted_plane_by_plane(runs: Runs) -> None:
    module = restore(runs.checkpoint("xy"))
    for key in ("test/cube", "test/stack"):
        assert_predicted(runs.folder / "stack.zarr", key, stacked(module, runs.truth[key][0]))


@torch.no_grad()
def test_volumes_are_the_mean_of_three_directions(runs: Runs) -> None:
    module = restore(runs.checkpoint("orthogonal"))
    out = runs.folder / "orthoplane.zarr"
    assert_predicted(out, "test/cube", in_three_directions(module, runs.truth["test/cube"][0]))
    # Thick planes are seen from one side only.
    assert_predicted(out, "test/stack", stacked(module, runs.truth["test/stack"][0]))


def test_images_beside_volumes_are_predicted_alike(runs: Runs, tmp_path: Path) -> None:
    class_runs.make_store(tmp_path / "other.zarr", {"test/image": SIZES["test/image"]})
    config = runs.config("xy")
    config["data"]["init_args"].update(store=str(tmp_path / "other.zarr"), planes=None)
    del config["data"]["init_args"]["augment"]
    weights = ["--ckpt_path", str(runs.checkpoint("xy"))]
    lightning("predict", tmp_path, config, *weights, "--writer.out", str(tmp_path / "images.zarr"))
    config["data"]["init_args"]["planes"] = "orthogonal"
    config["model"]["init_args"]["orthoplane"] = True
    lightning("predict", tmp_path, config, *weights, "--writer.out", str(tmp_path / "planes.zarr"))
    one, other = (class_runs.predicted(tmp_path / f"{name}.zarr", "test/image") for name in ("images", "planes"))
    np.testing.assert_array_equal(one, other)


def test_predictions_keep_shapes_and_pixel_sizes(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("stack", "orthoplane"):
        for sample in MosaicStore(runs.folder / f"{name}.zarr").samples("test"):
            shape, pixel_size_nm = SIZES[sample.key]
            assert sample.image.shape == sample.labels["organelles"].shape == shape
            assert sample.pixel_size_nm == pytest.approx(pixel_size_nm)
        with pytest.raises(SystemExit) as ended:
            main(["data", "verify", str(runs.folder / f"{name}.zarr")])
        assert ended.value.code == 0


def test_prediction_with_other_orthoplane_is_refused(runs: Runs, tmp_path: Path) -> None:
    config = runs.config("orthogonal", orthoplane=False)
    weights = ["--ckpt_path", str(runs.checkpoint("orthogonal"))]
    out = ["--writer.out", str(runs.folder / "orthoplane.zarr")]
    with pytest.raises(SystemExit, match="of another checkpoint, configuration or version"):
        lightning("predict", tmp_path, config, *weights, *out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"planes": None}, r"data\.patch_size 32: mosaics of 3 axes need one value an axis.*--data.planes xy"),
        ({"planes": "xy", "tile_size": [8, 32, 32]}, r"data\.tile_size \[8, 32, 32\]: planes have two sides"),
        ({"planes": "xy", "patch_size": [8, 32, 32]}, r"data\.patch_size \[8, 32, 32\]: planes have two sides"),
        ({"planes": "xy", "tile_size": 30}, r"VanillaUNet takes sides that are multiples of 4 px, not 30"),
        ({"planes": "orthogonal", "tile_size": [32, 16]}, "planes in three directions need one side for all"),
        (
            {"planes": "xy", "split": {"class_path": "data_modules.patches.splits.PatchSplit"}},
            r"data\.planes: choose another data\.split",
        ),
    ],
)
def test_sizes_that_do_not_suit_volumes_are_refused(
    runs: Runs, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    config = copy.deepcopy(runs.config("xy"))
    config["data"]["init_args"].update(changes)
    with pytest.raises(SystemExit, match=message):
        lightning("fit", tmp_path, config)
