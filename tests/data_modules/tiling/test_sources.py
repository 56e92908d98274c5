"""Files are found lazily and in order, with what the user says about them, and each has a name of its own."""

import csv
from pathlib import Path

import numpy as np
import pytest
import zarr

from data_modules.errors import UserError
from data_modules.tiling import Stated, find_sources, read_stated

EMPTY: dict[str, Stated] = {}


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def table(folder: Path, *rows: tuple[str, ...]) -> Path:
    with (folder / "s.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "s.csv"


def test_visible_files_of_subfolders_come_in_order(tmp_path: Path) -> None:
    touch(tmp_path / "set", "b/2.png", "b/10.tif", "a.mrc", ".hidden/c.png", ".d.png", "notes.md")
    (tmp_path / "set" / "b" / "round").symlink_to(tmp_path / "set")
    files = [entry.file for entry in find_sources(str(tmp_path / "set"), EMPTY)]
    assert files == ["set/a.mrc", "set/b/10.tif", "set/b/2.png", "set/notes.md"]


def test_zarr_images_and_arrays_are_found_without_labels(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "s.zarr", mode="w")
    train = root.create_group("train")
    for name in ("m1", "m0"):
        image = train.create_group(name)
        image.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": [], "datasets": [{"path": "0"}]}]}
        image.create_array("0", data=np.zeros((8, 8), np.uint8))
        image.create_group("labels").create_array("membrane", data=np.zeros((8, 8), np.uint8))
    root.create_array("plain", data=np.zeros((8, 8), np.uint8))
    root.create_group("labels").create_array("x", data=np.zeros((8, 8), np.uint8))
    touch(tmp_path, "z.png")
    below = [entry.file.split("/", 1)[1] for entry in find_sources(str(tmp_path), EMPTY)]
    assert below == ["s.zarr/plain", "s.zarr/train/m0", "s.zarr/train/m1", "z.png"]
    assert [entry.file for entry in find_sources(str(tmp_path / "s.zarr" / "plain"), EMPTY)] == ["plain"]


def test_fingerprints_of_arrays_follow_their_metadata(tmp_path: Path) -> None:
    for name, side in (("a", 8), ("same", 8), ("other", 9)):
        zarr.create_array(tmp_path / f"{name}.zarr", shape=(side, 8), dtype="uint8")
    first, same, other = (
        entry.fingerprint()
        for name in ("a", "same", "other")
        for entry in find_sources(str(tmp_path / f"{name}.zarr"), EMPTY)
    )
    assert first == same != other
    # It ends in the number of bytes that were read.
    assert int(other.rpartition("-")[2]) == (tmp_path / "other.zarr" / "zarr.json").stat().st_size


def test_the_first_file_needs_no_whole_walk(tmp_path: Path) -> None:
    for number in range(3):
        touch(tmp_path / str(number), *(f"{index:04}.png" for index in range(200)))
    found = find_sources(str(tmp_path), EMPTY)
    next(found)
    touch(tmp_path / "2", "later.png")
    assert sum(1 for _ in found) == 600


def test_names_are_different_and_could_be_folders(tmp_path: Path) -> None:
    awkward = ["a/b.png", "a_b.png", "a b.png", "ü.png", ".../x.png"[1:], f"{'long' * 50}.png", "a/b.png.tif"]
    touch(tmp_path, *awkward)
    names = [entry.name for entry in find_sources(str(tmp_path), EMPTY)]
    assert len(set(names)) == len(names) >= 6
    for name in names:
        assert not name.startswith(".")
        assert "/" not in name
        assert len(name) < 140


def test_the_nearest_row_of_the_table_counts(tmp_path: Path) -> None:
    touch(tmp_path / "set", "a/1.png", "a/2.png", "b/1.png", "c.h5")
    rows = [
        ("file", "pixel_size_nm", "licence", "dataset"),
        (".", "", "MIT", ""),
        ("a", "4", "CC0", ""),
        ("set/a/2.png", "45 4.6 4.6", "", ""),
        ("c.h5", "", "MIT", "volumes/raw"),
    ]
    stated = read_stated(table(tmp_path, *rows))
    found = {entry.file: entry for entry in find_sources(str(tmp_path / "set"), stated)}
    assert found["set/a/1.png"].stated == Stated((4.0,), "CC0")
    assert found["set/a/2.png"].stated == Stated((45.0, 4.6, 4.6))
    assert found["set/b/1.png"].stated == Stated(None, "MIT")
    assert found["set/c.h5"].what == "set/c.h5:volumes/raw"


def test_datasets_and_addresses_are_taken_as_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "c.h5")
    (entry,) = find_sources(f"{tmp_path}/c.h5:volumes/raw", EMPTY)
    assert (entry.path, entry.what) == (f"{tmp_path}/c.h5", "c.h5:volumes/raw")
    (entry,) = find_sources("https://host/a.zarr/", {"https://host/a.zarr": Stated(licence="CC0")})
    assert (entry.path, entry.stated.licence) == ("https://host/a.zarr", "CC0")


def test_wrong_paths_and_tables_are_refused(tmp_path: Path) -> None:
    for wrong in ("nowhere", "nowhere.h5:raw"):
        with pytest.raises(UserError, match="does not exist"):
            list(find_sources(str(tmp_path / wrong), EMPTY))
    with pytest.raises(UserError, match=r"cannot be read"):
        read_stated(tmp_path / "no.csv")
    with pytest.raises(UserError, match=r"has columns \['name'\]"):
        read_stated(table(tmp_path, ("name",), ("a",)))
    with pytest.raises(UserError, match=r"a.png: 'x' is no pixel size"):
        read_stated(table(tmp_path, ("file", "pixel_size_nm"), ("a.png", "x")))
