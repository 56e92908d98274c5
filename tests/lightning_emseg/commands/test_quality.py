"""`emseg data quality`: every level against a downsample made here, table, CSV and plot."""

import csv
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.commands import main
from lightning_emseg.commands.quality import quality
from lightning_emseg.metrics.sharpness import Filter, measure_levels
from tests.support import tiny
from tests.support.undrawn import undrawn

Pixels = NDArray[np.uint8]
SHAPES = {"a": (2100, 61), "b": (97, 130), "c": (64, 64)}
CRITERIA = ("brenner", "smd2", "variance", "vollath")


def criteria_per_pixel(image: Pixels) -> dict[str, float]:
    """The four means in plain numpy."""
    f = image.astype(np.float64)
    return {
        "brenner": float(np.mean((f[:, 2:] - f[:, :-2]) ** 2)),
        "smd2": float(np.mean(np.abs(np.diff(f, axis=1)[:-1] * np.diff(f, axis=0)[:, :-1]))),
        "variance": float(np.var(f)),
        "vollath": float(np.mean(f[:, :-1] * f[:, 1:]) - f.mean() ** 2),
    }


def box(image: Pixels, factor: int) -> Pixels:
    y, x = (side // factor for side in image.shape)
    blocks = image[: y * factor, : x * factor].reshape(y, factor, x, factor)
    means: Pixels = np.floor(blocks.mean(axis=(1, 3)) + 0.5).astype(np.uint8)
    return means


def nearest(image: Pixels, factor: int) -> Pixels:
    y, x = (side // factor for side in image.shape)
    return image[: y * factor : factor, : x * factor : factor]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def store(tmp_path: Path) -> tuple[Path, dict[str, Pixels]]:
    path = tmp_path / "s.zarr"
    # One mosaic of two bands, the second of which begins inside a block of 3 or 5 px.
    images = {f"test/{name}": tiny.content(shape, n)[0] for n, (name, shape) in enumerate(SHAPES.items())}
    for key, image in images.items():
        tiny.write_sample(path, key, image, None, pixel_size_nm=4.0)
    return path, images


@pytest.mark.parametrize(("filter", "reduce"), [("box", box), ("nearest", nearest)])
def test_every_level_is_that_of_the_downsampled_image(
    store: tuple[Path, dict[str, Pixels]], tmp_path: Path, filter: Filter, reduce: Callable[[Pixels, int], Pixels]
) -> None:
    path, images = store
    with undrawn():
        quality(str(path), downsample=[2, 3, 5], filter=filter, out=tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "quality.csv")
    assert [(row["mosaic"], row["level"]) for row in rows] == [
        (key, level) for key in images for level in ("original", "1/2", "1/3", "1/5")
    ]
    for row in rows:
        image = images[row["mosaic"]]
        factor = 1 if row["level"] == "original" else int(row["level"][2:])
        reduced = reduce(image, factor)
        assert (int(row["height_px"]), int(row["width_px"])) == reduced.shape
        assert float(row["pixel_size_x_nm"]) == float(row["pixel_size_y_nm"]) == 4.0 * factor
        before, after = criteria_per_pixel(image), criteria_per_pixel(reduced)
        for name in CRITERIA:
            assert float(row[f"{name}_per_pixel"]) == pytest.approx(after[name], rel=1e-9)
            assert float(row[f"{name}_ratio"]) == pytest.approx(after[name] / before[name], rel=1e-9)
        assert float(row["variance_sum"]) == pytest.approx(after["variance"] * reduced.size, rel=1e-9)
        assert row["filter"] == filter


def test_a_level_by_its_longer_side(tmp_path: Path) -> None:
    images = {"test/b": tiny.content((97, 130), 0)[0], "test/c": tiny.content((64, 64), 1)[0]}
    for key, image in images.items():
        tiny.write_sample(tmp_path / "s.zarr", key, image, None)
    with undrawn():
        quality(str(tmp_path / "s.zarr"), downsample=[], size=40, out=tmp_path)
    rows = {row["mosaic"]: row for row in rows_of(tmp_path / "quality.csv") if row["level"] == "40 px"}
    for key, height, width in (("test/b", 30, 40), ("test/c", 40, 40)):
        image = images[key]
        reduced = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
        assert (int(rows[key]["height_px"]), int(rows[key]["width_px"])) == (height, width)
        assert float(rows[key]["pixel_size_y_nm"]) == pytest.approx(4.0 * image.shape[0] / height)
        assert float(rows[key]["pixel_size_x_nm"]) == pytest.approx(4.0 * image.shape[1] / width)
        for name, value in criteria_per_pixel(reduced).items():
            assert float(rows[key][f"{name}_per_pixel"]) == pytest.approx(value, rel=1e-9)


def test_terminal_shows_mosaics_mean_and_error(
    store: tuple[Path, dict[str, Pixels]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, images = store
    main(["data", "quality", str(path), "--split", "test", "--downsample", "[2]", "--filter", "nearest"])
    shown = capsys.readouterr().out
    values = [criteria_per_pixel(image)["variance"] for image in images.values()]
    pairs = [(criteria_per_pixel(nearest(image, 2)), criteria_per_pixel(image)) for image in images.values()]
    ratios = [after["brenner"] / before["brenner"] for after, before in pairs]
    for numbers, form in ((values, ".2f"), (ratios, ".3f")):
        error = np.std(numbers, ddof=1) / math.sqrt(3)
        assert f"{np.mean(numbers):{form}} ± {error:{form}}" in shown
    line = next(line for line in shown.splitlines() if line.startswith("test/b") and "1/2" in line)
    assert "48 × 65" in line
    assert line.split()[5] == "8"  # nm per pixel
    assert f"{criteria_per_pixel(nearest(images['test/b'], 2))['vollath']:.2f}" in line


def test_one_mosaic_has_no_error(tmp_path: Path) -> None:
    tiny.write_sample(tmp_path / "s.zarr", "test/a", tiny.content((70, 80), 0)[0], None)
    assert "±" not in quality(str(tmp_path / "s.zarr"))


def test_files_are_written_only_on_request(store: tuple[Path, dict[str, Pixels]], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    quality(str(store[0]))
    assert sorted(tmp_path.rglob("*")) == before
    out = tmp_path / "new" / "folder"
    assert str(out / "quality.png") in quality(str(store[0]), out=out)
    assert Image.open(out / "quality.png").size[0] > 1000
    assert sorted(path.name for path in out.iterdir()) == ["quality.csv", "quality.png"]


def test_blurred_mosaics_measure_lower(tmp_path: Path) -> None:
    sharp = tiny.content((120, 130), 3)[0]
    blurred = gaussian_filter(sharp.astype(float), 2).astype(np.uint8)
    for name, image in (("blurred", blurred), ("sharp", sharp)):
        tiny.write_sample(tmp_path / "s.zarr", f"test/{name}", image, None)
    views = [MosaicView.of(sample, None) for sample in MosaicStore(tmp_path / "s.zarr").samples()]
    below, above = (measure_levels(view, [2]) for view in views)
    for low, high in zip(below, above, strict=True):
        assert low.per_pixel.brenner < high.per_pixel.brenner
        assert low.per_pixel.smd2 < high.per_pixel.smd2


def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    for name, height in (("low", 4096), ("tall", 5 * 4096)):
        tiny.write_sample(store, f"test/{name}", np.zeros((height, 150), np.uint8), None)
    peaks = []
    for sample in MosaicStore(store).samples():
        tracemalloc.start()
        measure_levels(MosaicView.of(sample, None), [2, 3])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--downsample", "[1]"], "at least 2"),
        (["--downsample", "[2,2]"], "different factors"),
        (["--downsample", "[30]"], "--downsample 30 would leave (70, 2) px of test/a"),
        (["--size", "100"], "test/c is only (64, 64) px"),
        (["--size", "20"], "--size 20 would leave (20, 1) px of test/a"),
        (["--split", "train"], "has no split 'train'"),
    ],
)
def test_impossible_levels_are_one_message(
    store: tuple[Path, dict[str, Pixels]], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["data", "quality", str(store[0]), *options])
    assert message in str(caught.value.code)


def test_volumes_and_blocked_paths_are_refused(tmp_path: Path) -> None:
    tiny.write_sample(tmp_path / "flat.zarr", "test/a", tiny.content((70, 80), 0)[0], None)
    tiny.write_sample(tmp_path / "deep.zarr", "train/v", tiny.content((8, 40, 40), 0)[0], None)
    (tmp_path / "file").touch()
    for options, message in (
        ([str(tmp_path / "deep.zarr")], "train/v is a volume"),
        ([str(tmp_path / "flat.zarr"), "--out", str(tmp_path / "file")], "cannot be made"),
        ([str(tmp_path / "none.zarr")], "no store at"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["data", "quality", *options])
        assert message in str(caught.value.code)
