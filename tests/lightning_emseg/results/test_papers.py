"""Printed values of the papers, and files of transfer tables that cannot be read."""

from pathlib import Path

import pytest

from data_modules.errors import UserError
from lightning_emseg.results.papers import paper_scores, read_paper_table
from tests.support import ROOT


def test_printed_f1_of_data_sets_is_known() -> None:
    printed = {paper.data: {(row.who, row.f1) for row in paper.rows} for paper in paper_scores()}
    assert printed["ISBI2012"] == {
        ("LinkNet", "0.97246 ± 0.08"),
        ("CASENet", "0.97132 ± 0.08"),
        ("U-Net", "0.97010 ± 0.09"),
    }
    assert ("U-Net-transfer", "0.6659") in printed["URISC"]
    assert ("CleftNet", "0.895") in printed["CREMI"]
    for paper in paper_scores():
        for row in paper.rows:
            assert not row.experiment or (ROOT / "experiments" / row.experiment).is_file()
            assert 0 < float(row.f1.partition(" ")[0]) < 1


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
def test_tables_that_cannot_be_read_say_why(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=told):
        read_paper_table(path, "t")
