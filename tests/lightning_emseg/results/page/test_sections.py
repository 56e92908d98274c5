"""Settings, curves and image quality of runs."""

from pathlib import Path

import pytest

from lightning_emseg.results.files import RunFileError
from lightning_emseg.results.page.sections import quality_tables
from tests.support.example_run import write_quality


def test_image_quality_is_compared_with_the_original(tmp_path: Path) -> None:
    write_quality(tmp_path / "quality")
    found = quality_tables(tmp_path / "quality")
    assert found["title"] == "quality (filter of smaller levels: box)"
    assert [[cell.text for cell in row] for row in found["means"].rows] == [
        ["original", "2", "1.0000 ± 0.0000"],
        ["1/2", "2", "0.5000 ± 0.0000"],
    ]
    assert [[cell.text for cell in row] for row in found["mosaics"].rows[:2]] == [
        ["test/a", "original", "64 × 64", "8"],
        ["test/a", "1/2", "64 × 64", "4"],
    ]


def test_empty_quality_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "quality.csv").write_text("mosaic,level\n")
    with pytest.raises(RunFileError, match="no rows"):
        quality_tables(tmp_path)
