"""`emseg attribute` on other windows, samplings, methods and data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from lightning_emseg.commands import main
from lightning_emseg.modules.cleftnet import CleftNet
from tests.support import linear_network, linear_volume, tiny
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


THRESHOLDS = (0.01, 0.05, 0.1)


class Studies:
    """Two studies of one linear network of volumes; read only, please."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, linear_volume.make_store(folder / "s.zarr")
        self.checkpoint = linear_network.save(linear_volume.LinearVolumeModule(), folder / "linear.ckpt")
        self.attribute("one", "--window", "[5,20,20]", "--method.exact", "true")
        with undrawn():
            self.attribute("two", "--window", "[5,16,16]", "--resize", "32", "--method.baseline", "blurred")

    def attribute(self, name: str, *more: str) -> None:
        where = ["--checkpoint", str(self.checkpoint), "--store", str(self.store), "--split", "test"]
        where += ["--label", "cleft"]
        common = [
            "--points",
            "16",
            "--windows",
            "8",
            "--method.steps",
            "2",
            "--method.baseline",
            "zero",
            "--check",
            "4",
        ]
        main(["attribute", *where, *common, *more, "--out", str(self.folder / name)])

    def refused(self, *more: str) -> str:
        with pytest.raises(SystemExit) as caught:
            self.attribute("refused", *more)
        return str(caught.value.code)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Studies:
    return Studies(tmp_path_factory.mktemp("volumes"))


def test_volumes_and_projections_equal_the_closed_form(studies: Studies) -> None:
    rows = table(studies.folder / "one" / "points.csv")
    expected = {}
    for group in groups(studies.folder / "one"):
        whole = np.asarray(zarr.open_array(studies.store / str(group.attrs["mosaic"]) / "0", mode="r")[:])
        origin = np.array(group.attrs["window_origin_px"])
        image = whole[tuple(slice(at, at + side) for at, side in zip(origin, (5, 20, 20), strict=True))].astype(float)
        for pixel in values(group, "pixel").astype(int).tolist():
            field = linear_volume.field_of(image, np.zeros_like(image), tuple(pixel))
            place = (group.attrs["mosaic"], *(origin + pixel).tolist())
            expected[place] = [((field > k).sum(), (field > k).any(axis=0).sum()) for k in THRESHOLDS]
        assert (group.attrs["voxel_nm3"], group.attrs["pixel_nm2"]) == (480.0, 12.0)
    assert len(rows) == len(expected) == 16
    for row in rows:
        found = expected[(row["mosaic"], *(int(row[f"{axis}_px"]) for axis in "zyx"))]
        for k, (voxels, columns) in zip(THRESHOLDS, found, strict=True):
            assert float(row[f"S_{k:g}_nm3"]) == voxels * 480
            assert float(row[f"S_xy_{k:g}_nm2"]) == columns * 12
            assert float(row[f"share_{k:g}"]) == voxels / 2000
            assert float(row[f"share_xy_{k:g}"]) == columns / 400
        assert float(row["completeness_error"]) < 1e-3
        assert not [name for name in row if name.startswith("S_0") and name.endswith("nm2")]


def test_names_of_tables_and_texts_say_volume(studies: Studies) -> None:
    folder = studies.folder / "one"
    rows = table(folder / "points.csv")
    summary = {(row["outcome"], row["k"]): row for row in table(folder / "summary.csv")}
    mean = np.mean([float(row["S_0.05_nm3"]) for row in rows]), np.mean([float(row["S_xy_0.05_nm2"]) for row in rows])
    row = summary["all", "0.05"]
    assert (float(row["S_nm3"]), float(row["S_xy_nm2"])) == pytest.approx(mean)
    assert {"S_nm3_se", "S_xy_nm2_se", "share_se", "share_xy_se"} <= set(row)
    assert "S_nm2" not in row
    found = json.loads((folder / "summary.json").read_text())["summary"][0]
    assert {"volume_nm3", "volume_se", "area_xy_nm2", "area_xy_se", "share_xy"} <= set(found)
    assert "area_nm2" not in found
    text = (folder / "summary.txt").read_text()
    assert "S_k in nm³" in text
    assert "S_xy in nm²" in text
    for name in ("curve.png", "curve_xy.png", "panels.png"):
        assert min(Image.open(folder / name).size) > 300


def test_one_side_resizes_sections_alone(studies: Studies) -> None:
    for group in groups(studies.folder / "two"):
        assert group.attrs["window_px"] == [5, 32, 32]
        assert group.attrs["pixel_size_nm"] == [40.0, 2.0, 1.5]
        assert (group.attrs["voxel_nm3"], group.attrs["pixel_nm2"]) == (120.0, 3.0)


def test_volumes_are_compared_with_volumes_only(studies: Studies, image_studies: Path, tmp_path: Path) -> None:
    one, two = (studies.folder / name for name in ("one", "two"))
    main(["areas", str(one), str(two), "--out", str(tmp_path / "a")])
    rows = {(row["study"], row["outcome"], row["k"]): row for row in table(tmp_path / "a" / "areas.csv")}
    mine, base = rows["two", "all", "0.01"], rows["one", "all", "0.01"]
    assert float(mine["ratio"]) == pytest.approx(float(mine["S_nm3"]) / float(base["S_nm3"]))
    assert float(mine["ratio_xy"]) == pytest.approx(float(mine["S_xy_nm2"]) / float(base["S_xy_nm2"]))
    assert (base["window_nm"], mine["nm_per_px"]) == ("200 × 80 × 60", "40 × 2 × 1.5")
    for name in ("areas.png", "areas_xy.png"):
        assert min(Image.open(tmp_path / "a" / name).size) > 300
    with pytest.raises(SystemExit, match="some of the studies are of images"):
        main(["areas", str(one), str(image_studies / "two"), "--out", str(tmp_path / "b")])


def test_a_grid_is_even_in_nm(studies: Studies) -> None:
    more = ["--sampling", "grid", "--step", "10", "--points", "null", "--windows", "null", "--window", "[5,20,20]"]
    with undrawn():
        studies.attribute("grid", *more, "--samples", "[a]", "--check", "0", "--overlap", "0")
    rows = table(studies.folder / "grid" / "points.csv")
    # 10 px of 3 nm are nearer to one section of 40 nm than to none.
    assert {int(row["z_px"]) for row in rows} == set(range(6))


def test_flat_windows_and_image_networks_are_refused(studies: Studies, tmp_path: Path) -> None:
    assert "one side or 3 sides" in studies.refused("--window", "[16,16]")
    images = linear_network.save(tiny.GreyModule(), tmp_path / "g.ckpt")
    assert "plane by plane" in studies.refused("--checkpoint", str(images))


def test_a_study_of_an_earlier_version_is_refused(studies: Studies, tmp_path: Path) -> None:
    shutil.copytree(studies.folder / "one", tmp_path / "old")
    for folder in (tmp_path / "old" / "fields.zarr").glob("window-*/volumes_px"):
        folder.rename(folder.with_name("areas_px"))
    with pytest.raises(SystemExit, match="an earlier version"):
        main(["areas", str(tmp_path / "old"), "--out", str(tmp_path / "a")])


def test_windows_are_limited_to_the_networks_patch(studies: Studies, tmp_path: Path) -> None:
    module = CleftNet(patch=(4, 16, 16), widths=(8, 8), voxel_nm=(40.0, 4.0, 4.0))
    checkpoint = linear_network.save(module, tmp_path / "c.ckpt")
    with undrawn():
        studies.attribute("cleft", "--checkpoint", str(checkpoint), "--windows", "2", "--points", "4", "--check", "2")
    (group, *_) = groups(studies.folder / "cleft")
    assert group.attrs["window_px"] == [4, 16, 16]
    # Every voxel looks at all others.
    assert json.loads((studies.folder / "cleft" / "summary.json").read_text())["method"]["receptive_radius_px"] == {
        "4 × 16 × 16": None
    }
