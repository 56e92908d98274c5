"""Sources become exactly the tiles that NumPy would cut, with a row about every file."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from data_modules.errors import UserError
from data_modules.tile_set import PLANES, SourceTiles, TileSet
from data_modules.tiling import Entry, Settings, Stated, find_sources, tile_sources
from data_modules.tiling import cutting as blocks_module

Array = NDArray[Any]
NOTHING: dict[str, Stated] = {}


def noise(shape: tuple[int, ...], dtype: Any = np.uint8, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def run(data: Path, out: Path, settings: Settings = Settings(), **more: Any) -> Counter[str]:  # noqa: B008
    entries = find_sources(str(data), more.get("stated", NOTHING))
    return tile_sources(entries, out, settings, more.get("workers", 2), more.get("progress", lambda _: None), {})


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "tile.csv").open(newline="") as file:
        return {row["file"].rpartition("/")[2]: row for row in csv.DictReader(file)}


def check_every_tile(source: SourceTiles, volume: Array) -> None:
    """Against plain slicing of the volume as it was tiled."""
    tiles = source.read(0, len(source))
    for tile, position in zip(tiles, source.positions.tolist(), strict=True):
        plane, section, y, x, height, width = position
        expected = np.take(volume, section, axis=plane)[y : y + height, x : x + width]
        np.testing.assert_array_equal(tile[:height, :width], expected)
        assert not tile[height:].any()
        assert not tile[:, width:].any()


def write_isotropic(path: Path, pixels: Array, angstrom: float = 80.0) -> None:
    with mrcfile.new(path) as file:
        file.set_data(pixels)
        file.set_volume()
        file.voxel_size = angstrom


def test_an_isotropic_volume_is_cut_in_three_planes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "BLOCK_PX", 10**6)
    pixels = noise((130, 240, 340), np.uint16)
    write_isotropic(tmp_path / "a.mrc", pixels)
    run(tmp_path / "a.mrc", tmp_path / "set", Settings("dtype"))
    (source,) = TileSet(tmp_path / "set").sources()
    check_every_tile(source, np.rint(pixels / 65535 * 255).astype(np.uint8))
    # xy: one row of 224 and two columns; xz and yz: 130 rows, two columns or one.
    assert Counter(source.positions[:, 0].tolist()) == {0: 130 * 2, 1: 240 * 2, 2: 340}
    row = rows(tmp_path / "set")["a.mrc"]
    assert (row["planes"], row["tiles"], row["dropped"]) == ("xy xz yz", "1080", str(130 * 2 + 340))
    assert (row["shape"], row["dtype"], row["pixel_size_nm"]) == ("130 × 240 × 340", "uint16", "8 × 8 × 8")
    assert row["reason"] == "isotropic: three planes"
    assert not list((tmp_path / "set").glob("tmp*"))


def test_an_anisotropic_stack_is_cut_in_xy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "BLOCK_PX", 50_000)
    pixels = noise((3, 500, 340))
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack")
    stated = {"a.tif": Stated((45.0, 4.0, 4.0), "CC-BY-4.0")}
    run(tmp_path / "a.tif", tmp_path / "set", stated=stated)
    (source,) = TileSet(tmp_path / "set").sources()
    check_every_tile(source, pixels)
    assert Counter(source.positions[:, 1].tolist()) == {0: 4, 1: 4, 2: 4}
    assert (source.source.pixel_size_nm, source.source.licence) == ((45, 4, 4), "CC-BY-4.0")
    assert rows(tmp_path / "set")["a.tif"]["reason"] == "anisotropic: xy only"


@pytest.mark.parametrize("angstrom", [80.0, 0.0])
def test_sources_above_the_limit_are_shrunk(tmp_path: Path, angstrom: float) -> None:
    # Isotropic volumes are shrunk along Z too and have to be thick enough for tiles of three planes.
    pixels = noise((224 if angstrom else 20, 240, 226))
    if angstrom:
        write_isotropic(tmp_path / "a.tif", pixels)
        (tmp_path / "a.tif").rename(tmp_path / "a.mrc")
        file, z = tmp_path / "a.mrc", 2
    else:
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack")
        file, z = tmp_path / "a.tif", 1
    run(file, tmp_path / "set", Settings("0,255", limit_px=pixels.size // 4))
    (source,) = TileSet(tmp_path / "set").sources()
    boxes = pixels.reshape(len(pixels) // z, z, 120, 2, 113, 2).mean(axis=(1, 3, 5))
    check_every_tile(source, np.rint(boxes).astype(np.uint8))
    row = rows(tmp_path / "set")[file.name]
    assert row["downsampled_by"] == f"{z} × 2 × 2"
    assert row["pixel_size_nm"] == ("16 × 16 × 16" if angstrom else "")


def make_folder(folder: Path) -> Path:
    folder.mkdir()
    Image.fromarray(noise((300, 300))).save(folder / "good.png")
    Image.fromarray(noise((300, 300, 3))).save(folder / "rgb.png")
    Image.fromarray(np.repeat(noise((240, 240, 1)), 3, axis=2)).save(folder / "grey_rgb.png")
    Image.fromarray(np.full((300, 300), 9, np.uint8)).save(folder / "constant.png")
    Image.fromarray(noise((111, 500))).save(folder / "narrow.png")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:20_000])
    (folder / "empty.tif").write_bytes(b"")
    (folder / "text.mrc").write_text("no image")
    (folder / "notes.md").write_text("notes")
    floats = np.random.default_rng(0).normal(size=(224, 224)).astype(np.float32)
    tifffile.imwrite(folder / "float.tif", floats)
    floats[5, 5] = np.nan
    tifffile.imwrite(folder / "nan.tif", floats)
    with tifffile.TiffWriter(folder / "mixed.tif") as tif:
        tif.write(noise((224, 224)), photometric="minisblack")
        tif.write(noise((224, 224), np.uint16), photometric="minisblack")
    return folder


def test_every_file_has_a_row_despite_errors(tmp_path: Path) -> None:
    counts = run(make_folder(tmp_path / "data"), tmp_path / "set")
    found = rows(tmp_path / "set")
    reasons = {
        "rgb.png": "real colour", "constant.png": "constant: every pixel is 9", "narrow.png": "at least 112 px",
        "cut.png": "cut.png cannot be read, it may be truncated", "empty.tif": "0 bytes", "text.mrc": "text.mrc",
        "nan.tif": "NaN", "mixed.tif": "mixes", "notes.md": "no format",
    }  # fmt: skip
    for name, reason in reasons.items():
        assert found[name]["status"] == ("ignored" if name == "notes.md" else "refused"), name
        assert reason in found[name]["reason"], name
        assert found[name]["source"] == ""
    good = {name for name, row in found.items() if row["status"] == "tiled"}
    assert good == {"good.png", "grey_rgb.png", "float.tif"}
    assert counts == {"tiled": 3, "refused": 8, "ignored": 1}
    assert {source.key for source in TileSet(tmp_path / "set").sources()} == {found[n]["source"] for n in good}
    assert "three equal colour channels" in found["grey_rgb.png"]["remarks"]
    assert found["float.tif"]["rule"].startswith("percentile -3.")
    assert json.loads((tmp_path / "set" / "tile.json").read_text())["files"] == dict(counts)


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    data, out = make_folder(tmp_path / "data"), tmp_path / "set"
    run(data, out)
    first, before = rows(out), contents(out / "sources")
    (data / "cut.png").write_bytes((data / "good.png").read_bytes())
    assert run(data, out) == {"tiled": 1, "known": 3, "refused": 7, "ignored": 1}
    second = rows(out)
    assert {key: value for key, value in contents(out / "sources").items() if key in before} == before
    assert second["good.png"] == first["good.png"] | {"status": "known"}
    assert second["cut.png"]["status"] == "tiled"
    assert run(data, tmp_path / "fresh", workers=1)["tiled"] == 4
    assert contents(tmp_path / "fresh" / "sources") == contents(out / "sources")


def test_rows_of_other_folders_stay(tmp_path: Path) -> None:
    run(make_folder(tmp_path / "data"), tmp_path / "set")
    (tmp_path / "more").mkdir()
    Image.fromarray(noise((300, 300), seed=5)).save(tmp_path / "more" / "other.png")
    run(tmp_path / "more", tmp_path / "set")
    found = rows(tmp_path / "set")
    assert (len(found), found["other.png"]["status"], found["good.png"]["status"]) == (13, "tiled", "tiled")


def test_another_file_under_a_known_name_is_refused(tmp_path: Path) -> None:
    for name, seed in (("x", 0), ("y", 1)):
        (tmp_path / name / "em").mkdir(parents=True)
        Image.fromarray(noise((300, 300), seed=seed)).save(tmp_path / name / "em" / "a.png")
    run(tmp_path / "x" / "em", tmp_path / "set")
    assert run(tmp_path / "y" / "em", tmp_path / "set") == {"refused": 1}
    assert "with another fingerprint" in rows(tmp_path / "set")["a.png"]["reason"]
    assert run(tmp_path / "x" / "em", tmp_path / "set", Settings("0,99")) == {"refused": 1}
    assert "with another grey" in rows(tmp_path / "set")["a.png"]["reason"]


def test_interrupted_runs_keep_whole_sources_and_resume(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(12):
        Image.fromarray(noise((300, 300), seed=number)).save(tmp_path / "data" / f"{number:02}.png")
    done = []

    def interrupt(tiles: int) -> None:
        done.extend([tiles] if tiles else [])
        if len(done) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "data", tmp_path / "set", progress=interrupt)
    assert not (tmp_path / "set" / "tile.csv").exists()
    kept = len(TileSet(tmp_path / "set").sources())
    assert 2 <= kept <= 4
    assert run(tmp_path / "data", tmp_path / "set") == {"known": kept, "tiled": 12 - kept}
    run(tmp_path / "data", tmp_path / "whole")
    assert contents(tmp_path / "set" / "sources") == contents(tmp_path / "whole" / "sources")


def test_an_unwritable_set_ends_the_run(tmp_path: Path) -> None:
    data = make_folder(tmp_path / "data")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "sources").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        run(data, tmp_path / "set")


def test_files_are_found_only_as_they_are_needed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(20):
        Image.fromarray(noise((224, 224), seed=number)).save(tmp_path / "data" / f"{number:02}.png")
    taken = 0
    ahead: list[int] = []

    def watched() -> Iterator[Entry]:
        nonlocal taken
        for entry in find_sources(str(tmp_path / "data"), NOTHING):
            taken += 1
            yield entry

    def look(tiles: int) -> None:
        ahead.extend([taken - len(ahead)] if tiles else [])

    tile_sources(watched(), tmp_path / "set", Settings(), 1, look, {})
    assert (taken, len(ahead)) == (20, 20)
    assert max(ahead) <= 6


@pytest.mark.parametrize("three", [True, False])
def test_random_tiles_are_those_places_of_the_source(tmp_path: Path, three: bool) -> None:
    pixels = noise((115, 230, 236), np.uint16)
    write_isotropic(tmp_path / "a.mrc", pixels)
    stated = {} if three else {"a.mrc": Stated((40.0, 8.0, 8.0))}
    run(tmp_path / "a.mrc", tmp_path / "set", Settings("range", random=300, seed=3), stated=stated)
    (source,) = TileSet(tmp_path / "set").sources()
    assert len(source) == 300
    record = source.source.details["grey"]
    assert record["of"] == "the first 256 random tiles"
    expected = np.rint((pixels.clip(record["lo"], record["hi"]) - record["lo"]) * 255 / (record["hi"] - record["lo"]))
    check_every_tile(source, expected.astype(np.uint8))
    planes = {PLANES[plane] for plane in source.positions[:, 0]}
    assert planes == (set(PLANES) if three else {"xy"})
    assert "300 random tiles of seed 3" in source.source.details["reason"]
