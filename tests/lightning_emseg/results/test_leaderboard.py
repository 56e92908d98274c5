"""Rows of leaderboards: mistakes in them, and those that are shipped."""

from pathlib import Path

import pytest

from data_modules.errors import UserError
from lightning_emseg.commands.leaderboard import leaderboard
from lightning_emseg.results.leaderboard import BEGIN, END, read_leaderboard
from lightning_emseg.results.papers import PAPER_VALUES
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
    for row in read_leaderboard(path).rows:
        assert (ROOT / "experiments" / row.experiment).is_file(), row.experiment
    assert f"{BEGIN}\n{leaderboard(path)}\n{END}" in (ROOT / TABLES[name]).read_text()


def test_the_papers_values_are_those_of_the_report() -> None:
    modules = {"unet": "UNet", "linknet": "LinkNet", "casenet": "CASENet", "unet_transfer": "UNetTransfer"}
    printed = {(value.data_set, value.module): value for value in PAPER_VALUES if value.module}
    definition = read_leaderboard(ROOT / "experiments" / "leaderboard" / "membranes.yaml")
    papers = {
        row.experiment: text for row in definition.rows if (text := row.paper.get("membrane_f1", ""))[:1].isdigit()
    }
    assert len(papers) == len(printed)
    for experiment, text in papers.items():
        folder, _, name = experiment.removesuffix(".yaml").partition("/")
        value = printed[{"urisc": "URISC", "isbi2012": "ISBI2012"}[folder], modules[name]]
        mean, _, spread = text.partition(" ± ")
        assert (mean, spread or None) == (value.f1, value.spread or None)
