"""Tables of transfer benchmarks that cannot be read."""

from pathlib import Path

import pytest

from data_modules.errors import UserError
from lightning_emseg.transfer.definition import read_table


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[", "cannot be read"),
        ("a: 1", "has to have the keys"),
        ("{benchmarks: [], tables: {t: {}}}", "needs title, runs, columns and rows"),
        ("{benchmarks: [], tables: {other: {}}}", "has no table 't'; it has other"),
        ("{benchmarks: [{name: a}], tables: {t: {}}}", "lacks something"),
        ("{benchmarks: [{name: a, title: A, stroe: b}], tables: {t: {}}}", "should be a mapping with some of the keys"),
        ("{benchmarks: [{name: a, title: A}], tables: {t: {}}}", "needs either a store"),
        (
            "{benchmarks: [{name: a, title: A, parts: [b]}], tables: {t: {title: T, runs: 1, columns: [], rows: []}}}",
            "there are no benchmarks b",
        ),
        (
            "{benchmarks: [{name: a, title: A, store: a}], tables: {t: {title: T, runs: 1, columns: [],"
            " rows: [{benchmark: a, iterations: 1, paper: {x: 0.5}}]}}}",
            "there are no columns x",
        ),
        (
            "{benchmarks: [{name: a, title: A, store: a}, {name: a, title: B, store: b}],"
            " tables: {t: {title: T, runs: 1, columns: [], rows: []}}}",
            "names a twice",
        ),
    ],
)
def test_rows_that_cannot_be_read_say_why(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=told):
        read_table(path, "t")
