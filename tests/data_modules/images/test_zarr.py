"""Zarr arrays and OME-Zarr images of both versions behind URLs: their pixels, and what becomes of them as sources."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr.format import FormatV04
from ome_zarr.writer import write_image

from data_modules.images.opening import open_image
from data_modules.store import tensors
from data_modules.tile_set import TileSet
from data_modules.tiling import RefusedError, Settings, find_sources, tile_sources
from tests.support.servers import serving, serving_bucket
from tests.support.store_checks import noise

STACK = noise((5, 12, 9)).astype(np.uint16) * 200
WIDE = noise((2, 230, 470), 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrays of versions 2 and 3, an image of version 0.4, and a larger array."""
    path = tmp_path_factory.mktemp("served")
    for version in (2, 3):
        zarr.create_array(path / f"v{version}.zarr", data=STACK, chunks=(4, 12, 5), zarr_format=version)
    zarr.create_array(path / "wide.zarr", data=WIDE, chunks=(1, 128, 300), zarr_format=2)
    group = zarr.open_group(path / "image.zarr", mode="w", zarr_format=2)
    scale, units = {"z": 0.03, "y": 0.004, "x": 0.005}, dict.fromkeys("zyx", "micrometer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_image(STACK, group, [], axes="zyx", fmt=FormatV04(), scale=scale, axes_units=units)
    return path


@pytest.fixture(scope="module", params=["http", "s3"])
def address(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """Of the folder; s3 is a bucket that only those with credentials may read."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        tensors._kvstore.cache_clear()
        tensors._open.cache_clear()
        with serving(folder) if request.param == "http" else serving_bucket("volumes", folder, patch) as found:
            yield found


@pytest.mark.parametrize("name", ["v2.zarr", "v3.zarr", "v2.zarr/", "image.zarr"])
def test_arrays_and_images_of_both_versions_come_back(address: str, name: str) -> None:
    with open_image(f"{address}/{name}") as volume:
        assert (volume.shape, volume.dtype.name) == ((5, 12, 9), "uint16")
        np.testing.assert_array_equal(volume.read((slice(0, 5), slice(0, 12), slice(0, 9))), STACK)
        part = (slice(3, 5), slice(2, 7), slice(1, 2))
        np.testing.assert_array_equal(volume.read(part), STACK[part])
        size = pytest.approx((30, 4, 5)) if name == "image.zarr" else None
        assert volume.pixel_size_nm == size


def test_arrays_of_version_2_become_tiles(address: str, tmp_path: Path) -> None:
    url = f"{address}/wide.zarr"
    counts = tile_sources(find_sources(url, {}), tmp_path / "set", Settings(), 1, lambda _: None, {})
    assert counts["tiled"] == 1
    (source,) = TileSet(tmp_path / "set").sources()
    assert (source.source.file, len(source)) == (url, 4)
    for tile, (_, section, y, x, height, width) in zip(source.read(0, 4), source.positions, strict=True):
        np.testing.assert_array_equal(tile[:height, :width], WIDE[section, y : y + height, x : x + width])


def test_what_is_not_there_is_said(address: str) -> None:
    with pytest.raises(RefusedError, match=r"none\.zarr is no array of Zarr"), open_image(f"{address}/none.zarr"):
        pass
