"""Damage on disk is an error that names sample, region and file, never silent zeros."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.store import Damage, LabelInfo, MosaicStore, MosaicView, read, verify
from data_modules.store.verify import pixels_to_verify
from tests.support.store_checks import data_files, edit_json, flip_byte, foreign_sample, noise, read_all, write_sample

BINARY = LabelInfo("binary")
SHAPE = (2100, 1100)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two samples: ``a`` with a label, both nothing but zeros, which zarr would not store unless told to."""
    path = tmp_path_factory.mktemp("verify") / "s"
    zeros = np.zeros(SHAPE, np.uint8)
    write_sample(path, zeros, {"m": (BINARY, zeros)})
    write_sample(path, zeros[:300, :200], key="train/b")
    return path


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Path:
    """Copy of the template, to be damaged."""
    return shutil.copytree(template, tmp_path / "s")


def found(store: Path) -> list[Damage]:
    return verify(MosaicStore(store))


def test_every_chunk_is_written_even_when_empty(store: Path) -> None:
    # Shards are (2048, 1536), (1536, 1024) and (1024, 512), after chunks of 512 that the levels are cut to.
    names = [path.relative_to(store / "train" / "a" / "0").as_posix() for path in data_files(store / "train/a/0")]
    assert names == ["c/0/0", "c/1/0"]
    for array in ("0", "labels/m/0"):
        assert len(data_files(store / "train/a" / array)) == 2
    for level in ("1", "2", "labels/m/1", "labels/m/2"):
        assert len(data_files(store / "train/a" / level)) == 1, level
    image = data_files(store / "train/a/0")
    assert image[0].stat().st_size >= 2048 * 1100, "images are stored as they are"


def test_sound_stores_have_every_pixel_verified(store: Path) -> None:
    read_pixels: list[int] = []
    opened = MosaicStore(store)
    assert verify(opened, read_pixels.append) == []
    levels = 2100 * 1100 + 1050 * 550 + 525 * 275
    assert sum(read_pixels) == pixels_to_verify(opened) == 2 * levels + 300 * 200


def test_a_missing_shard_names_sample_region_and_file(store: Path) -> None:
    shard = store / "train/a/0/c/1/0"
    shard.unlink()
    sample = MosaicStore(store).sample("train/a")
    region = [slice(2048, 2060), slice(5, 9)]
    with pytest.raises(UserError) as caught:
        read(sample.image, region)
    for part in ("image of train/a", "is missing", "2048:2060, 5:9", str(shard)):
        assert part in str(caught.value)
    with pytest.raises(UserError, match="train/a"):
        MosaicView.of(sample, None).read_image((2040, 0), (20, 20))
    assert not read(sample.image, [slice(0, 2048), slice(0, 1100)]).any(), "the other shard is sound"
    (damage,) = found(store)
    assert (damage.sample, damage.region) == ("train/a", (slice(2048, 2100), slice(0, 1100)))


def test_a_flipped_byte_names_its_chunk(store: Path) -> None:
    shard = store / "train/a/0/c/0/0"
    flip_byte(shard, 600_000)
    sample = MosaicStore(store).sample("train/a")
    with pytest.raises(UserError, match=r"image of train/a: stored data is damaged in region") as caught:
        read_all(sample.image)
    assert str(shard) in str(caught.value)
    (damage,) = found(store)
    rows, columns = damage.region
    assert (rows.stop - rows.start, columns.stop - columns.start) in {(512, 512), (512, 76)}
    assert "train/a" in damage.message
    assert str(shard) in damage.message


def test_damage_that_the_decompressor_meets_first_is_damage(tmp_path: Path) -> None:
    mask = noise((700, 700), top=2)
    write_sample(tmp_path / "s", mask, {"m": (BINARY, mask)})
    (shard,) = data_files(tmp_path / "s/train/a/labels/m/0")
    for at in (0, 4, 5000):
        flip_byte(shard, at)
        with pytest.raises(UserError, match="stored data is damaged"):
            read_all(MosaicStore(tmp_path / "s").sample("train/a").label("m"))
        flip_byte(shard, at)


@pytest.mark.parametrize("keep", [0, 10, 100_000])
def test_a_truncated_shard_is_damage(store: Path, keep: int) -> None:
    shard = store / "train/a/0/c/1/0"
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"image of train/a"):
        read_all(MosaicStore(store).sample("train/a").image)
    assert [damage.sample for damage in found(store)] == ["train/a"]


def test_any_byte_counts(store: Path) -> None:
    """Pixels, checksums and the index of the shard: whichever byte is wrong, it is noticed."""
    shard = store / "train/b/0/c/0/0"
    sound = shard.read_bytes()
    picks = np.random.default_rng(0).integers(0, len(sound), 40).tolist()
    for at in [0, *picks, *range(len(sound) - 20, len(sound))]:
        flip_byte(shard, at)
        with pytest.raises(UserError, match="train/b"):
            read_all(MosaicStore(store).sample("train/b").image)
        shard.write_bytes(sound)


def test_damage_to_labels_and_levels_is_found(store: Path) -> None:
    (store / "train/a/labels/m/0/c/0/0").unlink()
    flip_byte(store / "train/a/2/c/0/0")
    whats = [damage.what for damage in found(store)]
    assert whats == ["image of train/a, level 2", "label 'm' of train/a, level 0"]
    with pytest.raises(UserError, match=r"label 'm' of train/a"):
        MosaicView.of(MosaicStore(store).sample("train/a"), "m").read_mask((0, 0), (8, 8))


@pytest.mark.parametrize(
    "lost",
    ["train/a/zarr.json", "train/a/0/zarr.json", "train/a/labels/m/zarr.json", "train/a/labels/m/0/zarr.json",
     "train/a/labels/zarr.json", "train/a/labels/m"],
)  # fmt: skip
def test_missing_metadata_is_damage(store: Path, lost: str) -> None:
    path = store / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    (damage,) = found(store)
    assert damage.sample == "train/a"
    assert "train/a" in damage.message
    with pytest.raises(UserError, match="train/a"):
        MosaicStore(store).sample("train/a").label("m")


def test_missing_level_or_split_metadata_is_damage(store: Path) -> None:
    shutil.rmtree(store / "train/a/1")
    (damage,) = found(store)
    assert damage.what == "image of train/a, level 1"
    (store / "train/zarr.json").unlink()
    (damage,) = found(store)
    assert str(store / "train") in damage.message


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00\x01"])
def test_damaged_metadata_is_damage(store: Path, content: str) -> None:
    (store / "train/a/0/zarr.json").write_text(content)
    (damage,) = found(store)
    assert (damage.sample, damage.region) == ("train/a", ())
    with pytest.raises(UserError, match=r"train/a/0/zarr\.json"):
        MosaicStore(store).sample("train/a")


def test_one_damaged_sample_does_not_hide_the_next(store: Path) -> None:
    (store / "train/a/zarr.json").unlink()
    (store / "train/b/0/zarr.json").unlink()
    damages = found(store)
    assert [damage.sample for damage in damages] == ["train/a", "train/b"]
    for damage in damages:
        assert damage.sample in damage.message.split("it has")[0]


def test_the_sizes_of_metadata_and_data_differ(store: Path) -> None:
    edit_json(store / "train/a/0/zarr.json", shape=[2100, 1000])
    (damage,) = found(store)
    assert "(2100, 1000)" in damage.message


def test_foreign_stores_without_checksums_do_not_crash(tmp_path: Path) -> None:
    folder = foreign_sample(tmp_path / "f", noise((30, 30)))
    flip_byte(next(iter(data_files(folder))), 0)  # the header of zstd
    assert len(found(tmp_path / "f")) <= 1
