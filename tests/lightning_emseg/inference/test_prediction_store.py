"""Masks as pictures: polarity and format."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from lightning_emseg.inference.prediction_store import Format, Polarity, export_masks
from tests.support import tiny


@pytest.mark.parametrize(("polarity", "foreground"), [("dark", 0), ("bright", 255)])
@pytest.mark.parametrize("picture", ["png", "tiff"])
def test_polarity(tmp_path: Path, picture: Format, polarity: Polarity, foreground: int) -> None:
    image, mask = tiny.content((40, 55), 1)
    mask[mask == 255] = 0
    store = tmp_path / "p.zarr"
    tiny.write_sample(store, "test/a", image, mask)
    export_masks([store / "test" / "a"], tmp_path / "out", picture, polarity)
    path = tmp_path / "out" / "test" / f"a.{picture}"
    pixels = np.asarray(Image.open(path)) if picture == "png" else tifffile.imread(path)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels == foreground, mask == 1)
    np.testing.assert_array_equal(pixels == 255 - foreground, mask == 0)


def test_volume_becomes_pages(tmp_path: Path) -> None:
    image, mask = tiny.content((5, 20, 30), 1)
    tiny.write_sample(tmp_path / "p.zarr", "test/a", image, mask)
    export_masks([tmp_path / "p.zarr" / "test" / "a"], tmp_path / "out", "tiff", "bright")
    with tifffile.TiffFile(tmp_path / "out" / "test" / "a.tiff") as file:
        assert len(file.pages) == 5
        np.testing.assert_array_equal(file.asarray() == 255, mask == 1)
