"""``emseg transfer-table``: finished runs of CEM500K's transfer benchmarks in the tables of its paper."""

from pathlib import Path

from lightning_emseg.core.tables import MeanSE
from lightning_emseg.results.transfer_runs import read_table
from lightning_emseg.results.transfer_table import (
    FilledTable,
    collect,
    iterations_figure,
    markdown,
    write_csv,
    write_json,
)


def transfer_table(
    runs: list[Path], out: Path, paper: str = "table2", rows: Path = Path("experiments/cem500k/table.yaml")
) -> str:
    """Collect tested runs of transfer benchmarks and fill a table of Conrad and Narayan (2021).

    Which benchmark, initialisation, number of iterations and seed a run is of is read from its config.yaml, by the
    rules in the file of rows; its score from scores-test.json, at a probability of 0.5 as in the paper. Runs that are
    not finished, or of nothing that the rows know, are named and left out. Where an initialisation was trained for
    several numbers of iterations, iterations.png shows IoU against them (Figure 4d).

    Args:
        runs: Run folders, with what `lightning fit` and `lightning test` leave there.
        out: Folder for table.md, table.csv, table.json and iterations.png.
        paper: Table of the file of rows: table2 compares initialisations, table1 what was pretrained on.
        rows: File with the benchmarks, the initialisations, how runs of both are recognised, and the paper's numbers.

    Returns:
        The notes, what is missing, and the table.

    Raises:
        UserError: if a folder does not exist, no run can be used, or two runs have everything and the seed in common.
    """
    definition = read_table(rows, paper)
    table = FilledTable(definition, collect(runs, definition))
    text = markdown(table)
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(f"{text}\n")
    write_csv(out / "table.csv", table)
    write_json(out / "table.json", table)
    written = [out / name for name in ("table.md", "table.csv", "table.json")]
    if panels := _panels(table):
        written.append(out / "iterations.png")
        iterations_figure(panels).savefig(written[-1])
    else:
        # One of an earlier run would be of other numbers.
        (out / "iterations.png").unlink(missing_ok=True)
    notes = [f"note: {note}" for note in table.collection.notes]
    missing = [f"missing: {what}" for what in table.missing()]
    return "\n".join([*notes, *missing, "", text, "", ", ".join(map(str, written))])


def _panels(table: FilledTable) -> dict[str, dict[str, dict[int, MeanSE]]]:
    """IoU by iterations where a benchmark and encoder have several of them."""
    panels: dict[str, dict[str, dict[int, MeanSE]]] = {}
    for name, _, measured in table.rows():
        for encoder in sorted({row.encoder for row in measured}):
            curves = {
                column.title: {
                    row.iterations: cell.summary
                    for row in measured
                    if row.encoder == encoder and (cell := table.cell(row, column)) is not None
                }
                for column in table.columns
            }
            if any(len(curve) > 1 for curve in curves.values()):
                title = f"{table.paper.benchmarks[name].title} ({encoder})"
                panels[title] = {start: curve for start, curve in curves.items() if curve}
    return panels
