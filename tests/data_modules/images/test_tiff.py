"""Stacks of pages: opened once, held a page at a time, and every page read for what its own tags say."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from data_modules.images.opening import open_image
from data_modules.tiling import RefusedError

PAGES = np.random.default_rng(0).integers(0, 256, (40, 150, 130), dtype=np.uint8)


def written(path: Path, **options: Any) -> Path:
    with tifffile.TiffWriter(path) as tif:
        for page in PAGES:
            tif.write(page, photometric="minisblack", contiguous=False, **options)
    return path


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_stacks_are_opened_once_for_all_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str | None
) -> None:
    path = written(tmp_path / "a.tif", compression=compression)
    opened: list[str] = []
    original = tifffile.TiffFile.__init__

    def count(self: tifffile.TiffFile, file: Any, *args: Any, **options: Any) -> None:
        opened.append(str(file))
        original(self, file, *args, **options)

    monkeypatch.setattr(tifffile.TiffFile, "__init__", count)
    with open_image(str(path)) as volume:
        before = len(opened)
        for order in (range(40), reversed(range(40))):
            for section in order:
                read = volume.read((slice(section, section + 1), slice(0, 150), slice(0, 130)))
                np.testing.assert_array_equal(read[0], PAGES[section])
    assert before <= 3
    assert len(opened) == before


def test_pages_behind_one_another_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for section in range(32):
            tif.write(np.full((1024, 1024), section, np.uint8), contiguous=False)
    tracemalloc.start()
    with open_image(str(path)) as volume:
        for section in range(32):
            assert volume.read((slice(section, section + 1), slice(0, 1024), slice(0, 1024))).min() == section
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20, "of 32 MiB"


def test_pages_are_read_by_their_own_tags(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(PAGES[0], photometric="minisblack", metadata=None)
        tif.write(PAGES[1], photometric="miniswhite", metadata=None)
        tif.write(PAGES[2], photometric="minisblack", compression="zlib", predictor=True, metadata=None)
    with open_image(str(path)) as volume:
        assert volume.shape == (3, 150, 130)
        expected = np.stack([PAGES[0], 255 - PAGES[1], PAGES[2]])
        np.testing.assert_array_equal(volume.read((slice(0, 3), slice(0, 150), slice(0, 130))), expected)


def test_pages_of_another_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(PAGES[0], photometric="minisblack", metadata=None)
        tif.write(PAGES[1, :, :120], photometric="minisblack", metadata=None)
    with open_image(str(path)) as volume, pytest.raises(RefusedError, match=r"odd\.tif.*page 1 is \(150, 120\)"):
        volume.read((slice(0, 2), slice(0, 150), slice(0, 130)))
