"""``emseg transfer-table``: finished runs of CEM500K's transfer benchmarks in the tables of its paper."""

from pathlib import Path

from lightning_emseg.results.papers import PAPERS, read_paper_table
from lightning_emseg.results.transfer_table import collect_transfer_runs, iterations_figure


def transfer_table(runs: list[Path], out: Path, paper: str = "table2", rows: Path | None = None) -> str:
    """Collect tested runs of transfer benchmarks and fill a table of Conrad and Narayan (2021).

    Which benchmark, initialisation, number of iterations and seed a run is of is read from its config.yaml, by the
    rules in the file of rows; its score from scores-test.json, at a probability of 0.5 as in the paper. Runs that are
    not finished, or of nothing that the rows know, are named and left out. Where an initialisation was trained for
    several numbers of iterations, iterations.png shows IoU against them (Figure 4d).

    Args:
        runs: Run folders, with what `lightning fit` and `lightning test` leave there.
        out: Folder for table.md, table.csv, table.json and iterations.png.
        paper: Table of the file of rows: table2 compares initialisations, table1 what was pretrained on.
        rows: File with benchmarks and tables (how runs are recognised, and the paper's values); by default
            results/papers.yaml of the package.

    Returns:
        The notes, what is missing, and the table.

    Raises:
        UserError: if a folder does not exist, no run can be used, or two runs have everything and the seed in common.
    """
    table = collect_transfer_runs(runs, read_paper_table(rows or PAPERS, paper))
    written = table.write(out)
    if panels := table.curves():
        written.append(out / "iterations.png")
        iterations_figure(panels).savefig(written[-1])
    else:
        # One of an earlier run would be of other numbers.
        (out / "iterations.png").unlink(missing_ok=True)
    notes = [f"note: {note}" for note in table.notes]
    missing = [f"missing: {what}" for what in table.missing()]
    return "\n".join([*notes, *missing, "", table.markdown(), "", ", ".join(map(str, written))])
