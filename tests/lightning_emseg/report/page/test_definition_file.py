"""Files of image definition criteria."""

from pathlib import Path

import pytest

from lightning_emseg.report.page.definition_file import read_definition
from tests.support.example_run import write_quality


def test_definitions_are_read(tmp_path: Path) -> None:
    write_quality(tmp_path / "quality")
    table = read_definition(tmp_path / "quality" / "quality.csv")
    assert table.name == "quality"
    assert table.criteria == ("brenner",)
    assert [(level.mosaic, level.level, level.size) for level in table.levels[:2]] == [
        ("test/a", "original", "64 × 64"),
        ("test/a", "1/2", "64 × 64"),
    ]
    assert [level.per_pixel["brenner"] for level in table.levels] == [8, 4, 8, 4]
    assert [level.ratio["brenner"] for level in table.levels] == [1, 0.5, 1, 0.5]


def test_empty_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "quality.csv").write_text("mosaic,level\n")
    with pytest.raises(ValueError, match="no rows"):
        read_definition(tmp_path / "quality.csv")
