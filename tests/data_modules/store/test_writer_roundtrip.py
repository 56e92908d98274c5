"""What is written comes back, through this package and through stock zarr, whatever the shape and the bands."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from data_modules.store import LabelInfo, MosaicStore, SampleWriter, read
from tests.support.store_checks import noise, read_all, stock, write_sample

BINARY = LabelInfo("binary")


@st.composite
def banded(draw: st.DrawFn) -> tuple[tuple[int, ...], list[int]]:
    """A shape of 2 or 3 axes, around the edges of chunks in one of them, and heights of bands."""
    side = st.one_of(st.integers(1, 40), st.sampled_from([511, 512, 513]))
    shape: tuple[int, ...] = draw(st.one_of(st.tuples(side, st.integers(1, 40)), st.tuples(st.integers(1, 40), side)))
    if draw(st.booleans()):
        shape = (draw(st.sampled_from([1, 2, 7, 8, 9, 33])), *shape)
    return shape, draw(st.lists(st.integers(1, max(1, shape[0] // 2)), max_size=5))


@given(banded(), st.integers(0, 99))
def test_odd_sizes_and_bands(case: tuple[tuple[int, ...], list[int]], seed: int) -> None:
    shape, bands = case
    image, mask = noise(shape, seed), noise(shape, seed + 1, top=2)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "s.zarr"
        sample_folder = write_sample(store, image, {"m": (BINARY, mask)}, bands=bands)
        sample = MosaicStore(store).sample("train/a")
        np.testing.assert_array_equal(read_all(sample.image), image)
        np.testing.assert_array_equal(read_all(sample.label("m")), mask)
        np.testing.assert_array_equal(stock(sample_folder / "0"), image)
        np.testing.assert_array_equal(stock(sample_folder / "labels" / "m" / "0"), mask)


def test_more_than_one_shard_in_uneven_bands(tmp_path: Path) -> None:
    image = noise((4200, 70))
    write_sample(tmp_path / "s", image, bands=[1, 2046, 3, 2048, 50])
    sample = MosaicStore(tmp_path / "s").sample("train/a")
    np.testing.assert_array_equal(read_all(sample.image), image)
    region = [slice(2040, 2060), slice(3, 4)]
    np.testing.assert_array_equal(read(sample.image, region), image[2040:2060, 3:4])


def test_a_volume_over_several_shards(tmp_path: Path) -> None:
    image = noise((35, 30, 300))
    write_sample(tmp_path / "s", image, bands=[5, 29], pixel_size_nm=(40.0, 4.0, 4.0))
    sample = MosaicStore(tmp_path / "s").sample("train/a")
    np.testing.assert_array_equal(read_all(sample.image), image)
    assert sample.pixel_size_nm == (40.0, 4.0, 4.0)
    assert sample.image.shape == (35, 30, 300)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_instances_keep_the_largest_ids(tmp_path: Path, dtype: type[np.unsignedinteger]) -> None:
    top = int(np.iinfo(dtype).max)
    ids = noise((20, 30), top=3, dtype=dtype)
    ids[0, :3] = [top, top - 1, 0]
    folder = write_sample(tmp_path / "s", noise((20, 30)), {"cells": (LabelInfo("instances"), ids)})
    label = MosaicStore(tmp_path / "s").sample("train/a").label("cells")
    assert label.dtype == np.dtype(dtype).name
    assert label.info is not None
    assert (label.info.kind, label.info.counts) == ("instances", {})
    np.testing.assert_array_equal(read_all(label), ids)
    np.testing.assert_array_equal(stock(folder / "labels" / "cells" / "0"), ids)


def test_ids_may_be_of_c_types(tmp_path: Path) -> None:
    ids = noise((20, 30), top=3, dtype=np.uint64).astype(np.dtype("ulonglong"))
    write_sample(tmp_path / "s", noise((20, 30)), {"cells": (LabelInfo("instances"), ids)})
    label = MosaicStore(tmp_path / "s").sample("train/a").label("cells")
    assert label.dtype == "uint64"
    np.testing.assert_array_equal(read_all(label), ids)


def test_kinds_names_and_counts_come_back(tmp_path: Path) -> None:
    shape = (64, 48)
    organelles = noise(shape, 3, top=4)
    organelles[0, 0] = 255
    membrane = noise(shape, 4, top=2)
    classes = {0: "background", 1: "mitochondrion", 2: "vesicle", 3: "nucleus"}
    labels = {"organelles": (LabelInfo("classes", classes), organelles), "membrane": (BINARY, membrane)}
    write_sample(tmp_path / "s", noise(shape), labels, bands=[10, 11])
    sample = MosaicStore(tmp_path / "s").sample("train/a")
    assert list(sample.labels) == ["organelles", "membrane"]
    info = sample.label("organelles").info
    assert info is not None
    assert (info.kind, info.classes) == ("classes", classes)
    assert info.counts == {int(v): int((organelles == v).sum()) for v in np.unique(organelles)}
    info = sample.label("membrane").info
    assert info is not None
    assert info.counts == {0: int((membrane == 0).sum()), 1: int((membrane == 1).sum())}


def test_arrays_are_as_documented(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "s", noise((700, 600)), {"m": (BINARY, noise((700, 600), top=2))})
    image = zarr.open_array(folder / "0", mode="r")
    assert image.metadata.zarr_format == 3
    assert (image.chunks, image.shards) == ((512, 512), (1024, 1024))
    assert "crc32c" in str(image.metadata.to_dict()["codecs"])
    assert image.metadata.dimension_names == ("y", "x")


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_instances_of_another_type_are_refused(tmp_path: Path, dtype: type[np.generic]) -> None:
    with (
        pytest.raises(ValueError, match="'cells' of kind instances"),
        SampleWriter(tmp_path / "s", "train", "a", (4, 4), (1, 1)) as sample,
    ):
        sample.add_label("cells", LabelInfo("instances"), dtype)
