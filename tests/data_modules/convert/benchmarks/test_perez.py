from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from data_modules.convert.benchmarks import convert_perez
from data_modules.errors import UserError
from data_modules.store import MosaicStore
from tests.support.benchmark_trees import grey, perez
from tests.support.convert_checks import pixel_size, provenance, save, stored

Organelle = Literal["lysosomes", "mitochondria", "nuclei", "nucleoli"]


@pytest.mark.parametrize(
    ("organelle", "label"),
    [("lysosomes", "lysosome"), ("mitochondria", "mitochondrion"), ("nuclei", "nucleus"), ("nucleoli", "nucleolus")],
)
def test_each_organelle_is_a_binary_image_set(tmp_path: Path, organelle: Organelle, label: str) -> None:
    masks = perez(tmp_path / "supplemental_data", organelle)
    assert convert_perez(tmp_path, tmp_path / "o.zarr", organelle, 7.8) == list(masks)
    assert list(masks) == ["train/0003", "train/0012", "test/0003", "test/0012"]
    for key, mask in masks.items():
        np.testing.assert_array_equal(stored(tmp_path / "o.zarr", key, label), mask)
        np.testing.assert_array_equal(stored(tmp_path / "o.zarr", key), grey(int(key[-2:]), (14, 10)))
        assert list(MosaicStore(tmp_path / "o.zarr").sample(key).labels) == [label]
    assert pixel_size(tmp_path / "o.zarr", "test/0003") == [7.8, 7.8]
    assert provenance(tmp_path / "o.zarr", "test/0003")["source"] == f"test_images/{organelle}/test_orig.003.png"
    source = provenance(tmp_path / "o.zarr", "test/0003", label)["source"]
    assert source == f"ground_truth/{organelle}/test_label.003.png"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    perez(tmp_path, "nuclei")
    with pytest.raises(UserError, match=r"has no training_images/nucleoli, .*--root should hold training_images"):
        convert_perez(tmp_path, tmp_path / "o.zarr", "nucleoli", 7.8)
    with pytest.raises(UserError, match=r"--pixel-size-nm 0\.0"):
        convert_perez(tmp_path, tmp_path / "o.zarr", "nuclei", 0.0)
    (tmp_path / "ground_truth" / "nuclei" / "test_label.012.png").unlink()
    with pytest.raises(UserError, match=r"images without a label: .*test_orig\.012\.png"):
        convert_perez(tmp_path, tmp_path / "o.zarr", "nuclei", 7.8)
    save(tmp_path / "ground_truth" / "nuclei" / "test_label.012.png", grey(0, (14, 10)))
    with pytest.raises(UserError, match=r"test_label\.012\.png is no binary mask"):
        convert_perez(tmp_path, tmp_path / "o.zarr", "nuclei", 7.8)
