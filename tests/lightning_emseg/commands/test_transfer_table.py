"""The command on made-up runs: every number in its files is known beforehand, and so is what is missing."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from lightning_emseg.commands import main
from lightning_emseg.commands.transfer_table import transfer_table
from lightning_emseg.results.papers import PAPERS, read_paper_table
from tests.support import ROOT
from tests.support.transfer_runs import write_run
from tests.support.undrawn import undrawn


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Five seeds at 0.90 ± 0.01 that were pretrained, two random ones at 0.50 and 0.70, one after 100 steps."""
    found = [write_run(tmp_path / f"m{n}", 0.9 + 0.01 * (n - 2), seed=n) for n in range(5)]
    found += [write_run(tmp_path / f"r{n}", 0.5 + 0.2 * n, seed=n, weights=None, frozen=False) for n in range(2)]
    return [*found, write_run(tmp_path / "short", 0.45, seed=0, steps=100)]


def test_the_table_has_the_papers_row_and_ours(runs: list[Path], tmp_path: Path) -> None:
    with undrawn():
        text = transfer_table(runs, tmp_path / "out")
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.strip() in text
    assert "| Lucchi++ | paper | 10,000 | 0.894 | – | 0.865 | 0.892 | 0.895 | 0.888 |" in table
    # √(0.0004 + 0.0001 + 0 + 0.0001 + 0.0004) / √4 / √5 = 0.0071; 0.2 / √2 / √2 = 0.1.
    measured = "0.6000 ± 0.1000 (n 2) | missing | missing | missing | 0.9000 ± 0.0071 (n 5) |  |"
    assert f"|  | here, resnet50 | 10,000 | {measured}" in table
    assert "|  | here, resnet50 | 100 | missing | missing | missing | missing | 0.4500 (n 1) |  |" in table
    assert "| UroCell | paper | 2,500 | 0.424 | – | 0.584 | 0.618 | 0.734 | – |\n|  | here |  | missing |" in table


def test_missing_runs_are_listed(runs: list[Path], tmp_path: Path) -> None:
    with undrawn():
        text = transfer_table(runs, tmp_path / "out")
    assert "missing: UroCell: no runs" in text
    assert "missing: Lucchi++, 10,000 iterations, random, trained: 2 of 5 runs (seeds 0, 1)" in text
    assert "missing: Lucchi++, 10,000 iterations, ImageNet supervised: no runs" in text
    assert "10,000 iterations, CEM500K MoCoV2" not in text


def test_csv_and_json_hold_every_cell_and_run(runs: list[Path], tmp_path: Path) -> None:
    with undrawn():
        transfer_table(runs, tmp_path / "out")
    with (tmp_path / "out" / "table.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    (cell,) = [each for each in records if each["initialisation"] == "cem500k-moco" and each["iterations"] == "10000"]
    assert float(cell["mean"]) == pytest.approx(0.9)
    assert float(cell["se"]) == pytest.approx(0.01 * (10 / 4 / 5) ** 0.5)
    assert (cell["n"], cell["seeds"], cell["paper"], cell["published"]) == ("5", "0 1 2 3 4", "0.895", "0.888")
    empty = [each for each in records if each["benchmark"] == "guay"]
    assert {(each["mean"], each["n"], each["paper_iterations"]) for each in empty} == {("", "0", "1000")}
    content = json.loads((tmp_path / "out" / "table.json").read_text())
    assert len(content["cells"]) == len(records)
    assert {each["folder"]: each["iou"] for each in content["runs"]}[str(runs[0])] == pytest.approx(0.88)
    assert len(content["runs"]) == len(runs)
    assert content["notes"] == []
    assert "UroCell: no runs" in content["missing"]


def test_curve_needs_several_numbers_of_iterations(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert str(out / "iterations.png") in transfer_table(runs, out)
    assert min(Image.open(out / "iterations.png").size) > 500
    assert "iterations.png" not in transfer_table(runs[:-1], out)
    assert not (out / "iterations.png").exists()


def test_table_1_asks_what_was_pretrained_on(tmp_path: Path) -> None:
    names = {"bloss": 0.5, "cemraw": 0.6, "cemdedup": 0.7, "cem500k": 0.8}
    runs = [write_run(tmp_path / name, iou, weights=f"encoders/{name}.pth") for name, iou in names.items()]
    transfer_table([*runs, write_run(tmp_path / "own", 0.9, weights="mine.pth")], tmp_path / "out", "table1")
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| random, frozen | Bloss | CEMraw | CEMdedup | CEM500K | mine.pth, frozen | reported |" in table
    assert "| missing | 0.5000 (n 1) | 0.6000 (n 1) | 0.7000 (n 1) | 0.8000 (n 1) | 0.9000 (n 1) |" in table


def test_the_command_line_reads_it_all(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with undrawn():
        main(["transfer-table", *map(str, runs), str(tmp_path), "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().out
    assert f"note: {tmp_path} is left out: {tmp_path} has no config.yaml" in shown
    assert "0.9000 ± 0.0071 (n 5)" in shown
    with pytest.raises(SystemExit, match=r"error: .* has no table 'table3'; it has table2, table1"):
        main(["transfer-table", str(runs[0]), "--out", str(tmp_path / "out"), "--paper", "table3"])
    again = write_run(tmp_path / "again", 0.5, seed=0)
    with pytest.raises(SystemExit, match="seed 0"):
        main(["transfer-table", str(runs[0]), str(again), "--out", str(tmp_path / "out")])


def test_the_shipped_numbers_are_the_papers_means() -> None:
    """The paper's own averages, printed in the same tables, tell a slip of the keyboard."""
    two, one = read_paper_table(PAPERS, "table2"), read_paper_table(PAPERS, "table1")
    printed = {row.benchmark: row for row in two.rows}
    for name in ("random-trained", "imagenet", "imagenet-moco", "cem500k-moco"):
        parts = [printed[part].paper[name] for part in two.benchmarks["perez"].parts]
        assert printed["perez"].paper[name] == pytest.approx(sum(parts) / 4, abs=1e-3)
    means = {"mouse brain": [0.730, 0.893, 0.883, 0.890, 0.893], "other": [0.216, 0.489, 0.499, 0.518, 0.536]}
    members = {
        "mouse brain": ("kasthuri", "lucchi", "perez"),
        "other": ("all-mitochondria", "cremi", "guay", "urocell"),
    }
    rows = {row.benchmark: row for row in one.rows}
    for group, names in members.items():
        for column, mean in zip(one.columns, means[group], strict=True):
            values = [rows[name].paper[column.name] for name in names]
            assert sum(values) / len(values) == pytest.approx(mean, abs=1.5e-3), (group, column.name)
