"""`emseg attribute` on other windows, samplings, methods and data."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.support import linear_network
from tests.support.linear_network import Files, groups, table, values
from tests.support.undrawn import undrawn


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("variants"))


def test_resizing_is_recorded_with_the_effective_pixel_size(files: Files, tmp_path: Path) -> None:
    more = ["--window", "48", "--resize", "32", "--points", "8", "--method.steps", "2"]
    with undrawn():
        files.attribute(tmp_path / "r", *more)
    for group in groups(tmp_path / "r"):
        assert group.attrs["window_size_in_mosaic_px"] == [48, 48]
        assert group.attrs["window_px"] == [32, 32]
        assert group.attrs["mosaic_pixel_size_nm"] == [4.0, 3.0]
        assert group.attrs["pixel_size_nm"] == [6.0, 4.5]
        assert group.attrs["pixel_nm2"] == 27.0
    assert "6 × 4.5 nm/px (mosaics: 4 × 3 nm/px)" in (tmp_path / "r" / "summary.txt").read_text()


def test_a_grid_takes_all_its_points_once(files: Files, tmp_path: Path) -> None:
    more = ["--sampling", "grid", "--step", "16", "--points", "null", "--windows", "null", "--window", "32"]
    with undrawn():
        files.attribute(tmp_path / "g", *more, "--method.steps", "2", "--samples", '["c"]', "--check", "0")
    image, mask = (
        np.asarray(zarr.open_array(files.store / "test/c" / part, mode="r")[:]) for part in ("0", "labels/membrane/0")
    )
    expected = {(y, x) for y in range(8, image.shape[0], 16) for x in range(8, image.shape[1], 16) if mask[y, x] != 255}
    rows = table(tmp_path / "g" / "points.csv")
    assert {(int(row["y_px"]), int(row["x_px"])) for row in rows} == expected
    assert len(rows) == len(expected)


def test_without_labels_there_are_areas_and_no_outcomes(files: Files, tmp_path: Path) -> None:
    bare = linear_network.make_store(tmp_path / "bare.zarr", {"a": (40, 40)}, labelled=False)
    more = ["--store", str(bare), "--points", "5", "--window", "32", "--windows", "2", "--method.steps", "2"]
    assert "--label null" in files.refused(tmp_path / "o", *more)
    files.attribute(tmp_path / "o", *more, "--label", "null")
    rows = table(tmp_path / "o" / "points.csv")
    assert [row["outcome"] for row in rows] == [""] * 5
    assert {row["outcome"] for row in table(tmp_path / "o" / "summary.csv")} == {"all"}
    assert (tmp_path / "o" / "curve.png").is_file()


def test_a_method_of_captum_goes_the_same_way(files: Files, tmp_path: Path) -> None:
    more = ["--method", "Captum", "--method.method", "captum.attr.InputXGradient", "--points", "6", "--window", "32"]
    with undrawn():
        files.attribute(tmp_path / "c", *more, "--windows", "2")
    for group in groups(tmp_path / "c"):
        whole = np.asarray(zarr.open_array(files.store / str(group.attrs["mosaic"]) / "0", mode="r")[:])
        origin, size = np.array(group.attrs["window_origin_px"]), np.array(group.attrs["window_px"])
        window = whole[tuple(slice(at, at + side) for at, side in zip(origin, size, strict=True))].astype(np.float64)
        window = np.pad(window, [(0, want - have) for want, have in zip(size, window.shape, strict=True)], "symmetric")
        for field, pixel in zip(values(group, "fields"), values(group, "pixel").astype(int).tolist(), strict=True):
            expected = linear_network.field_of(window, np.zeros_like(window), (pixel[0], pixel[1]))
            np.testing.assert_allclose(field, expected, atol=1e-5)
        assert "checked" not in group
    assert json.loads((tmp_path / "c" / "summary.json").read_text())["method"]["method"] == "captum.attr.InputXGradient"
