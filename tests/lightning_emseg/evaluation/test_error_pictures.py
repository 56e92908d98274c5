"""Colours of error maps."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from data_modules.errors import UserError
from lightning_emseg.core.pictures import IGNORED
from lightning_emseg.evaluation.error_pictures import COLOURS, DARKEST, draw_errors, read_errors, write_error_files
from lightning_emseg.evaluation.errors import PixelOutcome
from tests.support.error_cases import Pixels, broken_membrane
from tests.support.example_run import write_run

# Machado, Oliveira and Fernandes, IEEE TVCG 15 (2009), severity 1, for linear RGB.
SEEN_BY: dict[str, list[list[float]]] = {
    "most": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopes": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopes": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopes": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def seen(colour: tuple[int, ...], matrix: list[list[float]]) -> list[float]:
    """CIELAB of a colour as it appears to somebody."""
    value = np.array(colour) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    changed = np.clip(np.array(matrix) @ linear, 0, 1)
    encoded = np.where(changed <= 0.0031308, changed * 12.92, 1.055 * changed ** (1 / 2.4) - 0.055)
    lab: list[float] = rgb2lab(encoded).tolist()
    return lab


@pytest.mark.parametrize("reader", SEEN_BY)
def test_outcome_colours_are_distinguishable(reader: str) -> None:
    greys = [(grey,) * 3 for grey in (DARKEST, 230, 255)]
    pairs = [*itertools.combinations([*COLOURS.values(), IGNORED], 2), *itertools.product(COLOURS.values(), greys)]
    differences = [math.dist(seen(a, SEEN_BY[reader]), seen(b, SEEN_BY[reader])) for a, b in pairs]
    # A difference of about 2 is just noticeable.
    assert min(differences) > 15


def test_pictures_show_outcomes_over_faded_image() -> None:
    codes = np.array([[0, 0, 1, 2, 3, 4, 5, 255]], np.uint8)
    image = np.array([[0, 255, 0, 10, 90, 200, 255, 255]], np.uint8)
    picture = draw_errors(codes, image)
    assert picture.mode == "P"
    rows = np.asarray(picture.convert("RGB"))[0].tolist()
    assert rows[:2] == [[DARKEST] * 3, [255] * 3]
    assert rows[2] == [0, 158, 115]  # green, correct
    assert rows[5:] == [[230, 159, 0], [204, 121, 167], list(IGNORED)]  # orange false, pink missed
    assert [tuple(row) for row in rows[3:5]] == [
        COLOURS[PixelOutcome.TOLERATED_FALSE_POSITIVE],
        COLOURS[PixelOutcome.TOLERATED_FALSE_NEGATIVE],
    ]


def test_grey_levels_keep_their_order() -> None:
    image = np.arange(256, dtype=np.uint8)[None]
    shown = np.asarray(draw_errors(np.zeros_like(image), image).convert("L")).astype(int)
    assert (np.diff(shown) >= 0).all()
    assert len(np.unique(shown)) == 32


VIEWS = ("image", "truth", "probability", "errors")


def written(folder: Path, key: str = "test/15") -> dict[str, Any]:
    truth, predicted = broken_membrane()
    image = np.random.default_rng(0).integers(0, 256, truth.shape, dtype=np.uint8)
    return write_error_files(folder, key, image, truth, 200 * predicted, 125, (4.0, 4.0), 8.0)[0]


def test_entry_states_errors_and_their_places(tmp_path: Path) -> None:
    entry = written(tmp_path)
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry
    assert (entry["key"], entry["shape_px"], entry["scale"], entry["section"]) == ("test/15", [60, 100], 1, None)
    assert (entry["pixel_size_nm"], entry["tolerance_nm"]) == ([4, 4], 8)
    assert entry["threshold"] == pytest.approx(0.49, abs=0.001)
    assert entry["pixels"] == {
        "tp": 240,
        "fp": 80 + 100 + 1,
        "fn": 60,
        "tn": 6000 - 240 - 181 - 60,
        "fp_within_tolerance": 80,
        "fn_within_tolerance": 12,
    }
    assert entry["breaks"]["count"] == 1
    (gap,) = entry["breaks"]["worst"]
    assert gap["centre_px"] == [20, 49.5]
    assert gap["box_px"] == [[20, 42], [21, 58]]
    assert gap["length_nm"] == pytest.approx(64)
    assert entry["breaks"]["per_mm"] == pytest.approx(1e6 / 400, rel=0.05)
    assert entry["spurious"]["count"] == 1
    assert entry["spurious"]["worst"][0]["size_px"] == 100
    (region,) = entry["regions"]
    assert (region["origin_px"], region["size_px"]) == ([0, 0], [60, 100])
    assert region["error_px"] == 48 + 101


def test_pictures_exist_in_one_size(tmp_path: Path) -> None:
    entry = written(tmp_path)
    assert entry["files"] == {
        "image": "test__15/image.jpg",
        "truth": "test__15/truth.png",
        "probability": "test__15/probability.jpg",
        "errors": "test__15/errors.png",
    }
    assert entry["regions"][0]["files"]["errors"] == "test__15/region-1-errors.png"
    for files in (entry["files"], entry["regions"][0]["files"]):
        assert tuple(files) == VIEWS
        assert {Image.open(tmp_path / file).size for file in files.values()} == {(100, 60)}
    errors = np.asarray(Image.open(tmp_path / "test__15/errors.png").convert("RGB"))
    assert tuple(errors[20, 50]) == COLOURS[PixelOutcome.FALSE_NEGATIVE]
    assert tuple(errors[47, 80]) == COLOURS[PixelOutcome.FALSE_POSITIVE]
    truth = np.asarray(Image.open(tmp_path / "test__15/truth.png"))
    np.testing.assert_array_equal(truth, 255 * broken_membrane()[0])


def test_large_mosaic_is_reduced_keeping_errors(tmp_path: Path) -> None:
    truth = np.zeros((1600, 3100), np.uint8)
    probability = truth.copy()
    probability[400, 700] = 255
    truth[800:820] = 1
    probability[800:820] = 255
    truth[5:30, 5:30] = 255
    entry = write_error_files(tmp_path, "a/b", truth, truth, probability, 128, (4, 4), 4)[0]
    assert entry["scale"] == 1 / 3
    assert {Image.open(tmp_path / file).size for file in entry["files"].values()} == {(1034, 534)}
    errors = np.asarray(Image.open(tmp_path / entry["files"]["errors"]).convert("RGB"))
    assert tuple(errors[400 // 3, 700 // 3]) == COLOURS[PixelOutcome.FALSE_POSITIVE]
    assert (errors == COLOURS[PixelOutcome.FALSE_POSITIVE]).all(axis=-1).sum() == 1
    (region,) = entry["regions"]
    assert region["size_px"] == [256, 256]
    assert {Image.open(tmp_path / file).size for file in region["files"].values()} == {(256, 256)}
    assert entry["pixels"]["tn"] == truth.size - 1 - 20 * 3100 - 25 * 25
    assert entry["breaks"] == {"count": 0, "worst": [], "per_mm": 0}


def test_second_run_replaces_the_first(tmp_path: Path) -> None:
    written(tmp_path)
    truth, _ = broken_membrane()
    entry = write_error_files(tmp_path, "test/15", truth, truth, 255 * truth, 128, (4.0, 4.0), 8.0)[0]
    assert entry["regions"] == []
    assert sorted(path.name for path in (tmp_path / "test__15").iterdir()) == [
        "errors.png",
        "image.jpg",
        "probability.jpg",
        "truth.png",
    ]


def test_empty_truth_has_no_break_rate(tmp_path: Path) -> None:
    empty = np.zeros((30, 31), np.uint8)
    entry = write_error_files(tmp_path, "a/b", empty, empty, empty + 255, 128, (4.0, 4.0), 8.0)[0]
    assert entry["breaks"] == {"count": 0, "worst": [], "per_mm": None}
    assert entry["spurious"]["worst"][0]["size_px"] == 30 * 31


def test_window_keys_become_plain_folders(tmp_path: Path) -> None:
    entry = written(tmp_path, "train/a b[0:60, 0:100]")
    assert Path(entry["files"]["image"]).parent.name == "train__a_b_0_60_0_100_"
    assert entry["key"] == "train/a b[0:60, 0:100]"


def test_volumes_show_their_worst_section(tmp_path: Path) -> None:
    truth, predicted = np.zeros((4, 40, 50), np.uint8), np.zeros((4, 40, 50), np.uint8)
    predicted[1, 5:9, 5:9] = 1
    predicted[2, 20:30, 20:30] = 1
    image = np.arange(4, dtype=np.uint8)[:, None, None] * 40 + truth
    entry = write_error_files(tmp_path, "a/b", image, truth, 255 * predicted, 128, (30, 4, 4), 8)[0]
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry
    assert (entry["section"], entry["shape_px"], entry["breaks"]) == (2, [4, 40, 50], None)
    assert entry["spurious"]["count"] == 1  # 16 × 480 nm³ are below 16,000
    assert entry["spurious"]["worst"][0]["centre_px"] == [2, 24.5, 24.5]
    assert entry["spurious"]["worst"][0]["length_nm"] is None
    assert entry["pixels"]["fp"] == 116
    assert entry["regions"][0]["error_px"] == 100
    picture = Image.open(tmp_path / entry["files"]["image"])
    assert picture.size == (50, 40)
    assert abs(int(np.asarray(picture).mean()) - 80) <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"truth": np.zeros((60, 99), np.uint8)}, r"test/15: truth is uint8 of \(60, 99\) px beside"),
        ({"probability": np.zeros((60, 100), np.float32)}, r"test/15: probability is float32"),
        ({"image": np.zeros((2, 2, 60, 100), np.uint8)}, r"test/15: image is uint8 of \(2, 2, 60, 100\) px"),
        ({"truth": np.full((60, 100), 2, np.uint8)}, r"test/15: the truth has other values than 0, 1 and 255"),
        ({"truth": np.full((60, 100), 255, np.uint8)}, r"test/15: all pixels of the truth are 255"),
        ({"pixel_size_nm": (4.0,)}, r"test/15: pixel_size_nm is \(4.0,\)"),
        ({"pixel_size_nm": (4.0, float("nan"))}, r"test/15: pixel_size_nm is \(4.0, nan\)"),
        ({"tolerance_nm": -1.0}, r"tolerance_nm is -1.0"),
    ],
)
def test_unsuitable_inputs_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    pixels: Pixels = np.ones((60, 100), np.uint8)
    given: dict[str, Any] = {"image": pixels, "truth": pixels, "probability": pixels, "level": 128}
    given |= {"pixel_size_nm": (4.0, 4.0), "tolerance_nm": 8.0, **changes}
    with pytest.raises(UserError, match=message):
        write_error_files(tmp_path, "test/15", **given)


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "test__15").write_text("a file in the way")
    with pytest.raises(UserError, match="pictures of test/15 cannot be written"):
        written(tmp_path)


def test_errors_are_read_as_the_analysis_writes_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth = np.zeros((120, 150), np.uint8)
    truth[40:46] = 1
    probability = np.where(truth == 1, 200, 20).astype(np.uint8)
    probability[:, 60:90] = 0
    image = random.integers(0, 256, truth.shape, np.uint8)
    entry = write_error_files(tmp_path, "test/x", image, truth, probability, 128, (4.0, 4.0), 8.0)[0]
    (tmp_path / "index.json").write_text(json.dumps({"mosaics": [entry]}))
    (errors,) = read_errors(tmp_path / "index.json")
    assert errors.shape_px == (120, 150)
    assert list(errors.layers) == ["image", "truth", "probability", "errors"]
    assert (errors.breaks, errors.spurious) == (1, 0)
    # The missing part is 30 px long, and the rest of the line is near enough to fill 2 px at each end.
    assert errors.worst["break"][0][2] == pytest.approx(104, abs=16)
    assert errors.worst["break"][0][:2] == pytest.approx((42.5, 74.5), abs=1.5)
    assert all(set(region.layers) == set(errors.layers) for region in errors.regions)
    assert errors.pixels["tp"] + errors.pixels["fn"] == truth.sum()


def test_files_outside_the_error_folder_are_ignored(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run") / "errors-test"
    index = json.loads((folder / "index.json").read_text())
    (tmp_path / "secret.png").write_bytes((folder / "test__a" / "image.png").read_bytes())
    index["mosaics"][0]["files"]["image"] = "../../secret.png"
    index["mosaics"][0]["files"]["truth"] = str(tmp_path / "secret.png")
    (folder / "index.json").write_text(json.dumps(index))
    assert list(read_errors(folder / "index.json")[0].layers) == ["probability", "errors"]
