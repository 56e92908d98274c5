"""Rows of leaderboards: mistakes in them, and those that are shipped."""

from pathlib import Path

import pytest

from data_modules.errors import UserError
from lightning_emseg.commands.leaderboard import leaderboard
from lightning_emseg.results.leaderboard import BEGIN, END, read_leaderboard
from tests.support import ROOT


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a: 1", "has to have `columns`"),
        ("columns: {f1: F1}\nrows: 3", "has to have `rows`, a list"),
        ("columns: {f1: F1}\nrows: [{experiment: a, data: b, papre: 1}]", "unknown keys \\['papre'\\]"),
        ("columns: {f1: F1}\nrows: [{experiment: a}]", "needs experiment and data"),
        ("columns: {f1: F1}\nrows: [{experiment: a, data: b, paper: {f2: 1}}]", "`paper` of a has \\['f2'\\]"),
        ("columns: {f1: F1}\nrows: [{experiment: a, data: b}, {experiment: a, data: c}]", "names a twice"),
        ("rows: [", "cannot be read"),
    ],
)
def test_rows_that_cannot_be_read_say_why(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "rows.yaml").write_text(content)
    with pytest.raises(UserError, match=told):
        read_leaderboard(tmp_path / "rows.yaml")


TABLES = {"membranes": "README.md", "clefts": "docs/clefts.md"}


@pytest.mark.parametrize("name", TABLES)
def test_shipped_rows_make_the_documented_table(name: str) -> None:
    path = ROOT / "experiments" / "leaderboard" / f"{name}.yaml"
    _, rows = read_leaderboard(path)
    for row in rows:
        assert (ROOT / "experiments" / row.experiment).is_file(), row.experiment
        assert (ROOT / "experiments" / row.base).exists(), row.base
    assert f"{BEGIN}\n{leaderboard(path)}\n{END}" in (ROOT / TABLES[name]).read_text()
