"""Error indices of the report."""

import json
from pathlib import Path

import numpy as np
import pytest

from lightning_emseg.error_analysis.report_files import write_error_files
from lightning_emseg.report.page.error_index import read_errors
from tests.support.example_run import write_run


def test_errors_are_read_as_the_analysis_writes_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth = np.zeros((120, 150), np.uint8)
    truth[40:46] = 1
    probability = np.where(truth == 1, 200, 20).astype(np.uint8)
    probability[:, 60:90] = 0
    image = random.integers(0, 256, truth.shape, np.uint8)
    entry = write_error_files(tmp_path, "test/x", image, truth, probability, 128, (4.0, 4.0), 8.0)
    (tmp_path / "index.json").write_text(json.dumps({"mosaics": [entry]}))
    (errors,) = read_errors(tmp_path / "index.json")
    assert errors.shape_px == (120, 150)
    assert list(errors.layers) == ["image", "truth", "probability", "errors"]
    assert (errors.breaks.count, errors.spurious.count) == (1, 0)
    # The missing part is 30 px long, and the rest of the line is near enough to fill 2 px at each end.
    assert errors.breaks.worst[0].length_nm == pytest.approx(104, abs=16)
    assert errors.breaks.worst[0].centre_px == pytest.approx((42.5, 74.5), abs=1.5)
    assert all(set(region.layers) == set(errors.layers) for region in errors.regions)
    assert errors.pixels["tp"] + errors.pixels["fn"] == truth.sum()


def test_files_outside_the_error_folder_are_ignored(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run") / "errors-test"
    index = json.loads((folder / "index.json").read_text())
    (tmp_path / "secret.png").write_bytes((folder / "test__a" / "image.png").read_bytes())
    index["mosaics"][0]["files"]["image"] = "../../secret.png"
    index["mosaics"][0]["files"]["truth"] = str(tmp_path / "secret.png")
    (folder / "index.json").write_text(json.dumps(index))
    assert list(read_errors(folder / "index.json")[0].layers) == ["probability", "errors"]
