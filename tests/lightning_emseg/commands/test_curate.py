"""``emseg curate tile`` from folders, real data and a server, also when it is killed."""

import csv
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from data_modules.tile_set import SourceWriter, TileSet
from lightning_emseg.commands import main
from tests.support import DATA
from tests.support.servers import serving


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "tile.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def make_images(folder: Path, number: int, side: int = 300) -> Path:
    folder.mkdir()
    for index in range(number):
        pixels = np.random.default_rng(index).integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03}.png")
    return folder


def test_a_folder_with_licences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_images(tmp_path / "em", 2)
    (data / "bad.tif").write_bytes(b"")
    (tmp_path / "s.csv").write_text("file,licence\n.,CC0\n")
    main(["curate", "tile", str(data), str(tmp_path / "set"), "--sources", str(tmp_path / "s.csv")])
    assert "2 sources tiled, 0 known, 1 refused, 0 of other formats" in capsys.readouterr().out
    assert [row["licence"] for row in rows(tmp_path / "set")] == ["CC0"] * 3
    main(["curate", "tile", str(data), str(tmp_path / "set"), "--sources", str(tmp_path / "s.csv")])
    assert "0 sources tiled, 2 known" in capsys.readouterr().out


def test_tiles_of_one_source_only_are_remarked_upon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["curate", "tile", str(make_images(tmp_path / "em", 1)), str(tmp_path / "set"), "--pixel-size-nm", "4"])
    assert "all tiles are of one source" in capsys.readouterr().out
    assert rows(tmp_path / "set")[0]["pixel_size_nm"] == "4 × 4"


def test_samples_of_a_store_are_sources(tmp_path: Path) -> None:
    data, store = make_images(tmp_path / "em", 2), tmp_path / "s.zarr"
    labels = make_images(tmp_path / "labels", 2)
    for file in labels.iterdir():
        Image.fromarray(np.asarray(Image.open(file)) // 128 * np.uint8(255)).save(file)
    words = ["--labels", str(labels), "--foreground", "bright", "--pixel-size-nm", "4"]
    main(["data", "convert", "folder", "--images", str(data), "--out", str(store), *words])
    main(["curate", "tile", str(store), str(tmp_path / "set")])
    found = rows(tmp_path / "set")
    assert [row["file"] for row in found] == ["s.zarr/train/000", "s.zarr/train/001"]
    assert {(row["format"], row["pixel_size_nm"]) for row in found} == {("OME-Zarr", "4 × 4")}
    for source, file in zip(TileSet(tmp_path / "set").sources(), sorted(data.iterdir()), strict=True):
        np.testing.assert_array_equal(source.tile(0), np.asarray(Image.open(file))[:224, :224])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "nothing was tiled, 1 refused"),
        (["--grey", "bright"], "--grey 'bright' is none of"),
        (["--random", "0"], "give at least 1"),
        (["--workers", "0"], "give at least 1"),
        (["--pixel-size-nm", "4,x"], "--pixel-size-nm: '4,x' is no pixel size"),
    ],
)
def test_mistakes_end_with_status_1(tmp_path: Path, words: list[str], reason: str) -> None:
    (tmp_path / "bad.tif").write_bytes(b"")
    with pytest.raises(SystemExit, match=reason):
        main(["curate", "tile", str(tmp_path / "bad.tif"), str(tmp_path / "set"), *words])


@pytest.mark.parametrize("version", [2, 3])
def test_remote_arrays_are_read_in_part(tmp_path: Path, version: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 1000, 1000), dtype=np.uint8)
    (tmp_path / "www").mkdir()
    spec = {"chunks": (1, 250, 250), "compressors": None, "zarr_format": version}
    zarr.create_array(tmp_path / "www" / "a.zarr", data=pixels, **spec)  # type: ignore[arg-type]
    asked: list[str] = []
    with serving(tmp_path / "www", requests=asked) as address:
        words = [f"{address}/a.zarr", str(tmp_path / "set"), "--random", "8", "--seed", "2"]
        main(["curate", "tile", *words])
        chunks = [path for path in asked if path.rsplit("/", 1)[1][0].isdigit()]
        main(["curate", "tile", *words])
        assert rows(tmp_path / "set")[0]["status"] == "known"
    (source,) = TileSet(tmp_path / "set").sources()
    for index, (plane, section, y, x, height, width) in enumerate(source.positions.tolist()):
        assert (plane, height, width) == (0, 224, 224)
        np.testing.assert_array_equal(source.tile(index), pixels[section, y : y + 224, x : x + 224])
    # Of 160 chunks; a tile lies in four at most.
    assert 8 <= len(chunks) <= 32
    assert rows(tmp_path / "set")[0]["file"] == f"{address}/a.zarr"


def test_servers_that_do_not_have_it_are_named(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    with serving(tmp_path / "www") as address, pytest.raises(SystemExit, match="nothing was tiled, 1 refused"):
        main(["curate", "tile", f"{address}/a.zarr", str(tmp_path / "set"), "--random", "8"])
    assert "is no array of Zarr" in rows(tmp_path / "set")[0]["reason"]


def assert_equal_sets(one: Path, other: Path) -> None:
    for mine, theirs in zip(TileSet(one).sources(), TileSet(other).sources(), strict=True):
        assert mine.source == theirs.source
        np.testing.assert_array_equal(mine.read(0, len(mine)), theirs.read(0, len(theirs)))


def test_interrupted_runs_resume_to_the_same_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_images(tmp_path / "em", 4)
    write, written = SourceWriter.write, itertools.count()

    def interrupted(writer: SourceWriter, *tiles: Any) -> None:
        write(writer, *tiles)
        if next(written) == 2:
            raise KeyboardInterrupt

    words = ["curate", "tile", str(data), str(tmp_path / "set"), "--workers", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(SourceWriter, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            main(words)
    assert len(TileSet(tmp_path / "set").sources()) == 2
    main(words)
    assert [row["status"] for row in rows(tmp_path / "set")] == ["known", "known", "tiled", "tiled"]
    main(["curate", "tile", str(data), str(tmp_path / "whole")])
    assert_equal_sets(tmp_path / "set", tmp_path / "whole")


DIES = """
import os, signal, sys
from data_modules.tile_set import SourceWriter
from lightning_emseg.commands import main
leave, left = SourceWriter.__exit__, []
def leave_and_die(writer, *rest):
    leave(writer, *rest)
    left.append(writer)
    if len(left) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
SourceWriter.__exit__ = leave_and_die
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_killed_runs_resume_to_the_same_set(tmp_path: Path) -> None:
    data = make_images(tmp_path / "em", 8, 460)
    words = ["curate", "tile", str(data), str(tmp_path / "set"), "--workers", "2"]
    done = subprocess.run([sys.executable, "-c", DIES, *words], env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL
    assert 3 <= len(TileSet(tmp_path / "set").sources()) < 8
    main(words)
    main(["curate", "tile", str(data), str(tmp_path / "whole"), "--workers", "1"])
    assert_equal_sets(tmp_path / "set", tmp_path / "whole")


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data of ../shared/data is not here")
def test_real_sets(tmp_path: Path) -> None:
    volume_file = DATA / "fib25_medulla" / "raw.tif"
    main(["curate", "tile", str(volume_file), str(tmp_path / "set"), "--pixel-size-nm", "10,10,10"])
    main(["curate", "tile", str(DATA / "isbi2012" / "train" / "images"), str(tmp_path / "set")])
    main(["curate", "tile", str(DATA / "cem_examples"), str(tmp_path / "set")])
    found = {row["file"]: row for row in rows(tmp_path / "set")}
    assert (found["raw.tif"]["planes"], found["raw.tif"]["tiles"], found["raw.tif"]["inverted"]) == (
        "xy xz yz", "750", "no",
    )  # fmt: skip
    sections = [row for name, row in found.items() if name.startswith("images/") and row["shape"] == "1 × 512 × 512"]
    assert {row["tiles"] for row in sections} == {"4"}
    volume = tifffile.imread(volume_file)
    (source,) = (each for each in TileSet(tmp_path / "set").sources() if each.source.file == "raw.tif")
    for index in range(0, 750, 97):
        plane, section, y, x, height, width = source.positions[index].tolist()
        expected = np.take(volume, section, axis=plane)[y : y + height, x : x + width]
        np.testing.assert_array_equal(source.tile(index), expected)
