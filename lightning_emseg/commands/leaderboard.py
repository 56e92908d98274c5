"""``emseg leaderboard``: results of runs beside those of the papers, in a table of the README."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from data_modules.errors import UserError
from lightning_emseg.results.leaderboard import (
    collect_scores,
    leaderboard_table,
    read_leaderboard,
    read_measured,
    replace_table,
    write_measured,
)
from lightning_emseg.results.runs import read_run


def leaderboard(
    rows: Path = Path("experiments/leaderboard/membranes.yaml"),
    collect: dict[str, Path | list[Path]] | None = None,
    rerun: list[str] | None = None,
    extra_configs: list[Path] | None = None,
    out: Path = Path("runs/leaderboard"),
    readme: Path | None = None,
) -> str:
    """Collect scores of tested runs, or make them anew, and write the table of results.

    Results are kept as JSON beside the rows, under the same name, so that the table can be made again where the runs
    are not.

    Args:
        rows: YAML with columns and a row an experiment: file below experiments/, the base that it is a variation of,
            data, how it was run here, and what its paper prints, unless the package knows it.
        collect: Run folders by experiment, as '{isbi2012/linknet.yaml: runs/isbi2012-linknet}'; of several runs, as
            with other seeds, give a list. Scores are those of test, or of validate where nothing was tested.
        rerun: Experiments to fit and test before they are collected, as '[demo.yaml]'.
        extra_configs: Variations for reruns, as '[experiments/with/cpu_20min.yaml]'.
        out: Folder for the runs of reruns.
        readme: File whose table is replaced, between two marker lines; without it the table is only printed.

    Raises:
        UserError: if a run has no scores, an experiment has no row, or a rerun fails.
    """
    headings, found = read_leaderboard(rows)
    known = {row.experiment: row for row in found}
    wanted = [*(collect or {}), *(rerun or [])]
    if unknown := sorted(set(wanted) - set(known)):
        raise UserError(f"{rows} has no row for {', '.join(unknown)}; it has {', '.join(known)}")
    runs = {name: each if isinstance(each, list) else [each] for name, each in (collect or {}).items()}
    for experiment in rerun or ():
        folder = out / experiment.removesuffix(".yaml").replace("/", "-")
        configs = filter(None, (known[experiment].base, experiment))
        _run([*(rows.parent.parent / config for config in configs), *(extra_configs or ())], folder)
        runs[experiment] = [folder]
    file = rows.with_suffix(".json")
    measured = {
        **read_measured(file),
        **{name: collect_scores(list(map(read_run, folders))) for name, folders in runs.items()},
    }
    table = leaderboard_table(headings, found, measured)
    if readme is not None:
        readme.write_text(replace_table(readme.read_text(), table, str(readme)))
    if runs:
        write_measured(file, measured, list(known))
    return table


def _run(configs: Sequence[Path], folder: Path) -> None:
    """Fit and test in processes of their own, as a user would; a failure keeps what was collected before."""
    words = [word for config in configs for word in ("--config", str(config))]
    for verb in ("fit", "test"):
        command = [sys.executable, "-m", "lightning_emseg", verb, *words, "--trainer.default_root_dir", str(folder)]
        # The command's own output is the table alone.
        if code := subprocess.run(command, stdout=sys.stderr).returncode:
            raise UserError(f"`lightning {verb}` of {configs[0]} ended with status {code}; its message is above")
