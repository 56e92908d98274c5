"""Shards stay open and their indexes remembered: within bounds, unmixed, and never against what is on disk."""

import json
import os
import struct
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec, GzipCodec, ZstdCodec

from data_modules.errors import UserError
from data_modules.store import ArrayRef, read, sharded, tensors
from data_modules.store.layout import CACHE_VARIABLE, ReadError
from data_modules.store.sharded import Sharded
from tests.support.store_checks import CODECS, Pixels, Shape, flip_byte, noise, write_array


def age(folder: Path) -> None:
    """Make files look as if they had been written long ago, so that their indexes are remembered."""
    for path in folder.rglob("*"):
        os.utime(path, (1e9, 1e9))


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ArrayRef, Pixels, sharded.ShardFiles]:
    """An array of 36 shards, and the files that were opened of it."""
    pixels = noise((24, 24))
    array = write_array(tmp_path / "a", pixels, (2, 2), (4, 4), codec=None)
    age(tmp_path / "a")
    files = sharded.ShardFiles()
    monkeypatch.setattr(sharded, "files", files)
    return array, pixels, files


WHOLE = (slice(0, 24), slice(0, 24))


def test_open_files_are_bounded(many: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    array, pixels, files = many
    monkeypatch.setattr(sharded, "MOST_OPEN", 5)
    before = len(list(Path("/proc/self/fd").iterdir()))
    np.testing.assert_array_equal(read(array, WHOLE), pixels)
    assert len(files.kept) == 5
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 5


@pytest.mark.parametrize(("megabytes", "kept"), [("0", 0), ("0.00065", 10), ("1", 36)])
def test_memory_is_bounded_by_the_environment(
    many: Any, monkeypatch: pytest.MonkeyPatch, megabytes: str, kept: int
) -> None:
    array, pixels, files = many
    monkeypatch.setenv(CACHE_VARIABLE, megabytes)
    for _ in range(2):
        np.testing.assert_array_equal(read(array, WHOLE), pixels)
    assert len(files.kept) == kept, "an index of four chunks has 64 bytes"


@pytest.mark.parametrize("text", ["-1", "much", "", "nan", "inf"])
def test_a_setting_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch, many: Any, text: str) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, text)
    with pytest.raises(UserError, match=CACHE_VARIABLE):
        read(many[0], WHOLE)


def test_changes_on_disk_outdate_remembered_indexes(many: Any) -> None:
    array, pixels, files = many
    read(array, WHOLE)
    assert len(files.kept) == 36
    shards = sorted(path for path in (Path(array.path) / "c").rglob("*") if path.is_file())
    flip_byte(shards[0], -1)
    with pytest.raises(UserError, match="is damaged"):
        read(array, WHOLE)
    flip_byte(shards[0], -1)
    np.testing.assert_array_equal(read(array, WHOLE), pixels)
    shards[1].unlink()
    with pytest.raises(UserError, match="is missing"):
        read(array, WHOLE)


def test_threads_share_few_files_without_mixing_them_up(many: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    array, pixels, _ = many
    monkeypatch.setattr(sharded, "MOST_OPEN", 2)
    wrong: list[str] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        try:
            for _ in range(60):
                y, x = (int(at) for at in random.integers(0, 17, 2))
                region = (slice(y, y + 7), slice(x, x + 7))
                if not np.array_equal(read(array, region), pixels[region]):
                    wrong.append(str(region))
        except Exception as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


DTYPES = ("uint8", "uint16", "uint32", "uint64", "int16", "float32")


def metadata(array: ArrayRef) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(array.path) / "zarr.json").read_text())
    return content


def direct(array: ArrayRef, region: tuple[slice, ...]) -> Pixels:
    layout = Sharded.parse(metadata(array), array.complete)
    assert layout is not None, "this layout is to be read directly"
    return layout.read(array.path, region)


def tensorstore(array: ArrayRef, region: tuple[slice, ...]) -> Pixels:
    return tensors.read_array(array.path, array.complete, "", region)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[Pixels, Shape, Shape]:
    """Pixels of 2 or 3 axes with chunk and shard, each axis at most three shards long."""
    ndim = draw(st.integers(2, 3))
    chunk = tuple(draw(st.integers(1, 6)) for _ in range(ndim))
    per_shard = tuple(draw(st.integers(1, 3)) for _ in range(ndim))
    shard = tuple(c * n for c, n in zip(chunk, per_shard, strict=True))
    shape = tuple(draw(st.integers(1, 3 * side)) for side in shard)
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    pixels = np.frombuffer(
        np.random.default_rng(draw(st.integers(0, 99))).bytes(int(np.prod(shape)) * dtype.itemsize), np.uint8
    )
    values: Pixels = pixels.view(dtype).reshape(shape)
    return np.nan_to_num(values), chunk, shard


@st.composite
def regions(draw: st.DrawFn, shape: Shape) -> tuple[slice, ...]:
    ends = [sorted((draw(st.integers(0, side)), draw(st.integers(0, side)))) for side in shape]
    return tuple(slice(start, stop) for start, stop in ends)


@given(data=st.data(), case=arrays(), codec=st.sampled_from(list(CODECS)))
def test_the_same_pixels_as_tensorstore_and_zarr(data: st.DataObject, case: Any, codec: str | None) -> None:
    pixels, chunk, shard = case
    with tempfile.TemporaryDirectory() as folder:
        array = write_array(Path(folder) / "a", pixels, chunk, shard, codec)
        plain = zarr.open_array(array.path, mode="r")
        for _ in range(3):
            region = data.draw(regions(pixels.shape))
            found = direct(array, region)
            assert found.dtype == pixels.dtype
            np.testing.assert_array_equal(found, pixels[region])
            np.testing.assert_array_equal(found, np.asarray(plain[region]))
            np.testing.assert_array_equal(found, tensorstore(array, region))
            np.testing.assert_array_equal(found, read(array, region))


@given(case=arrays(), seed=st.integers(0, 99))
def test_missing_foreign_chunks_are_the_fill_value(case: Any, seed: int) -> None:
    pixels, chunk, shard = case
    fill = 7
    blank = (
        np.random.default_rng(seed).random([-(-side // c) for side, c in zip(pixels.shape, chunk, strict=True)]) < 0.5
    )
    pixels = np.array(pixels)
    for place in zip(*blank.nonzero(), strict=True):
        pixels[tuple(slice(p * c, (p + 1) * c) for p, c in zip(place, chunk, strict=True))] = fill
    with tempfile.TemporaryDirectory() as folder:
        array = write_array(Path(folder) / "a", pixels, chunk, shard, codec="zstd", write_empty=False, fill=fill)
        whole = tuple(slice(0, side) for side in pixels.shape)
        np.testing.assert_array_equal(direct(array, whole), pixels)
        np.testing.assert_array_equal(tensorstore(array, whole), pixels)


CHUNKS = 4
INDEX = 16 * CHUNKS + 4


def reindexed(content: bytes, entry: int, offset: int, length: int) -> bytes:
    """A shard whose index, with a sound checksum, says something else of one chunk."""
    index = np.frombuffer(content[-INDEX:-4], "<u8").reshape(CHUNKS, 2).copy()
    index[entry] = offset, length
    return content[:-INDEX] + index.tobytes() + struct.pack("<I", google_crc32c.value(index.tobytes()))


def flipped(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 0xFF
    return bytes(changed)


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "no shard": ("missing", lambda content: None),
    "no chunk": ("missing", lambda content: reindexed(content, 0, 2**64 - 1, 2**64 - 1)),
    "empty": ("damaged", lambda content: b""),
    "shorter than the index": ("damaged", lambda content: content[:10]),
    "first half": ("damaged", lambda content: content[: len(content) // 2]),
    "last half": ("damaged", lambda content: content[len(content) // 2 :]),
    "byte of the first chunk": ("damaged", lambda content: flipped(content, 0)),
    "byte of the index": ("damaged", lambda content: flipped(content, -INDEX)),
    "byte of the checksum of the index": ("damaged", lambda content: flipped(content, -1)),
    "chunk behind the end": ("damaged", lambda content: reindexed(content, 0, len(content) + 5, 20)),
    "chunk of no length": ("damaged", lambda content: reindexed(content, 0, 0, 0)),
    "chunk shorter than its checksum": ("damaged", lambda content: reindexed(content, 0, 0, 2)),
    "chunk of a huge length": ("damaged", lambda content: reindexed(content, 0, 0, 2**63)),
    "half a chunk": ("damaged", lambda content: reindexed(content, 0, 0, 20)),
}


@pytest.mark.parametrize("codec", list(CODECS))
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_what_tensorstore_says_it_is(tmp_path: Path, damage: str, codec: str | None) -> None:
    kind, change = DAMAGES[damage]
    array = write_array(tmp_path / "a", noise((16, 16), top=3), (8, 8), (16, 16), codec)
    shard = tmp_path / "a" / "c" / "0" / "0"
    content = change(shard.read_bytes())
    shard.unlink()
    if content is not None:
        shard.write_bytes(content)
    region = (slice(0, 16), slice(1, 16))
    for reader in (direct, tensorstore):
        with pytest.raises(ReadError) as caught:
            reader(array, region)
        assert caught.value.kind == kind, reader
        assert str(shard) in str(caught.value)
    with pytest.raises(UserError, match=rf"image of train/a: stored data is {kind} in region \[0:16, 1:16\]"):
        read(array, region)


def test_a_missing_chunk_leaves_the_others_readable(tmp_path: Path) -> None:
    pixels = noise((16, 16))
    array = write_array(tmp_path / "a", pixels, (8, 8), (16, 16), codec=None)
    shard = tmp_path / "a" / "c" / "0" / "0"
    shard.write_bytes(reindexed(shard.read_bytes(), 0, 2**64 - 1, 2**64 - 1))
    region = (slice(8, 16), slice(0, 16))
    np.testing.assert_array_equal(read(array, region), pixels[region])


def test_sound_zstd_of_another_length_is_damage(tmp_path: Path) -> None:
    array = write_array(tmp_path / "a", noise((16, 16)), (8, 8), (16, 16), codec="zstd")
    layout = Sharded.parse(metadata(array), complete=True)
    assert layout is not None
    narrow = replace(layout, chunk=(8, 4))
    with pytest.raises(ReadError, match="has 64 bytes instead of 32") as caught:
        narrow.read(array.path, (slice(0, 8), slice(0, 4)))
    assert caught.value.kind == "damaged"


@pytest.mark.parametrize(
    "region", [(slice(-1, 4), slice(0, 4)), (slice(0, 17), slice(0, 4)), (slice(5, 4), slice(0, 4))]
)
def test_regions_outside_the_array_are_refused(tmp_path: Path, region: tuple[slice, ...]) -> None:
    array = write_array(tmp_path / "a", noise((16, 16)), (8, 8), (16, 16), codec=None)
    with pytest.raises(UserError, match="does not lie inside"):
        read(array, region)


@pytest.mark.parametrize("codecs", ["no checksum", "other codec", "no shards", "start"])
def test_other_layouts_are_read_too(tmp_path: Path, codecs: str) -> None:
    pixels = noise((20, 30), dtype=np.uint32, top=2**32)
    options: dict[str, Any] = {"shards": (16, 16), "compressors": [Crc32cCodec()]}
    if codecs == "no checksum":
        options["compressors"] = [ZstdCodec()]
    elif codecs == "other codec":
        options["compressors"] = [GzipCodec(), Crc32cCodec()]
    elif codecs == "no shards":
        options = {"compressors": [Crc32cCodec()]}
    else:
        options["shards"] = {"shape": (16, 16), "index_location": "start"}
    array = zarr.create_array(tmp_path / "a", shape=pixels.shape, dtype=pixels.dtype, chunks=(8, 8), **options)
    array[...] = pixels
    ref = ArrayRef(str(tmp_path / "a"), "image of train/a", pixels.shape, "uint32", complete=False)
    assert Sharded.parse(metadata(ref), complete=False) is None
    region = (slice(3, 19), slice(2, 30))
    np.testing.assert_array_equal(read(ref, region), pixels[region])


def test_every_byte_of_a_compressed_shard_counts(tmp_path: Path) -> None:
    array = write_array(tmp_path / "a", noise((16, 16), top=2), (8, 8), (16, 16), codec="zstd")
    shard = tmp_path / "a" / "c" / "0" / "0"
    sound = shard.read_bytes()
    for at in range(len(sound)):
        shard.write_bytes(flipped(sound, at))
        with pytest.raises(UserError, match="damaged"):
            read(array, (slice(0, 16), slice(0, 16)))
