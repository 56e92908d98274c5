"""The table of results holds what the score files of runs hold, and nothing that was not measured."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_modules.errors import UserError
from lightning_emseg.commands import main
from lightning_emseg.commands.leaderboard import leaderboard
from lightning_emseg.results.leaderboard import BEGIN, END, read_measured
from tests.support import ROOT, tiny

ROWS = """
columns: {membrane_f1: membrane F1, background_f1: background F1, v_rand: V-Rand}
rows:
- {experiment: a/unet.yaml, data: A, paper: 0.5 ± 0.1}
- {experiment: b.yaml, data: 'B | C', how: by hand}
"""


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "experiments" / "leaderboard" / "rows.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(ROWS)
    return path


def run_of(folder: Path, *f1: float | None, **more: Any) -> Path:
    folder.mkdir()
    mosaics = {f"test/{n}": {"membrane_f1": value, "background_f1": 0.75, **more} for n, value in enumerate(f1)}
    scores = {"label": "membrane", "threshold": 0.4, "criterion": "mean_f1", "mosaics": mosaics, "f1_by_threshold": {}}
    (folder / "scores-test.json").write_text(json.dumps(scores))
    packages = {"torch": "2.0", "numpy": "1.0"}
    environment = {"git": {"commit": "abc", "changed": False}, "packages": packages}
    (folder / "environment-test.json").write_text(json.dumps(environment))
    return folder


def test_row_is_mean_and_error_over_mosaics(rows: Path, tmp_path: Path) -> None:
    table = leaderboard(rows, collect={"a/unet.yaml": run_of(tmp_path / "run", 0.5, 0.7, None)})
    # Mean 0.6, standard deviation 0.1 · √2 over √2.
    assert "| `a/unet.yaml` | A | 0.5 ± 0.1 | 0.600 ± 0.100 | 0.750 ± 0.000 |  |" in table
    assert "| `b.yaml` | B \\| C |  |  |  | by hand |" in table
    result = read_measured(rows.with_suffix(".json"))["a/unet.yaml"]
    assert (result.scores["membrane_f1"].n, result.commit, result.versions) == (2, "abc", {"torch": "2.0"})


def test_results_stay_where_runs_do_not(rows: Path, tmp_path: Path) -> None:
    first = leaderboard(rows, collect={"a/unet.yaml": run_of(tmp_path / "one", 0.5)})
    assert "| 0.500 |" in first
    second = leaderboard(rows, collect={"b.yaml": run_of(tmp_path / "two", 0.25, v_rand=0.9)})
    assert "| 0.500 |" in second
    assert "here: V-Rand" in second
    assert leaderboard(rows) == second


def test_the_table_replaces_what_is_between_its_markers(rows: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    table = leaderboard(rows, readme=readme)
    assert readme.read_text() == f"before\n{BEGIN}\n{table}\n{END}\nafter\n"
    readme.write_text("no markers")
    with pytest.raises(UserError, match="needs one line"):
        leaderboard(rows, readme=readme)
    assert readme.read_text() == "no markers"


@pytest.mark.parametrize("missing", ["scores-test.json", "environment-test.json"])
def test_a_run_without_a_test_is_refused(rows: Path, tmp_path: Path, missing: str) -> None:
    run = run_of(tmp_path / "run", 0.5)
    (run / missing).unlink()
    with pytest.raises(UserError, match=f"has no {missing}: run `lightning test`"):
        leaderboard(rows, collect={"a/unet.yaml": run})
    assert not rows.with_suffix(".json").exists()


def test_several_runs_count_by_their_means(rows: Path, tmp_path: Path) -> None:
    runs = [run_of(tmp_path / "one", 0.5, 0.7), run_of(tmp_path / "two", 0.4, 0.2)]
    table = leaderboard(rows, collect={"a/unet.yaml": list(runs)})
    # Means 0.6 and 0.3: their mean 0.45, and half of their difference as its error.
    assert "| `a/unet.yaml` | A | 0.5 ± 0.1 | 0.450 ± 0.150 |" in table
    assert read_measured(rows.with_suffix(".json"))["a/unet.yaml"].scores["membrane_f1"].n == 2


def test_what_was_only_validated_is_collected_as_such(rows: Path, tmp_path: Path) -> None:
    tested, validated = run_of(tmp_path / "one", 0.5), run_of(tmp_path / "two", 0.75)
    for name in ("scores", "environment"):
        (validated / f"{name}-test.json").rename(validated / f"{name}-validate.json")
    leaderboard(rows, collect={"a/unet.yaml": validated})
    assert read_measured(rows.with_suffix(".json"))["a/unet.yaml"].verb == "validate"
    with pytest.raises(UserError, match="were tested, others only validated"):
        leaderboard(rows, collect={"a/unet.yaml": [tested, validated]})


def test_a_paper_prints_what_columns_it_has(rows: Path) -> None:
    rows.write_text("columns: {f1: F1, auc: AUC, x: X}\nrows: [{experiment: a, data: d, paper: {auc: .5, f1: .8}}]")
    assert leaderboard(rows).splitlines()[0] == (
        "| experiment | data | paper: F1 | paper: AUC | here: F1 | here: AUC | how, here |"
    )
    assert leaderboard(rows).splitlines()[2] == "| `a` | d | 0.8 | 0.5 |  |  |  |"


def test_a_run_of_no_row_is_refused(rows: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no row for c\.yaml; it has a/unet\.yaml, b\.yaml"):
        leaderboard(rows, collect={"c.yaml": run_of(tmp_path / "run", 0.5)})


@pytest.mark.slow
def test_an_experiment_is_run_anew_and_collected(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    smoke = yaml.safe_load((ROOT / "experiments" / "smoke.yaml").read_text())
    smoke["data"]["init_args"] |= {"train": ["96x96"], "val": ["80x80"], "test": ["70x90"], "patches_per_epoch": 4}
    smoke["model"]["init_args"]["encoder"] = tiny.ENCODER
    rows.write_text("columns: {membrane_f1: F1}\nrows: [{experiment: smoke.yaml, base: base.yaml, data: synthetic}]")
    (rows.parent.parent / "base.yaml").write_text(yaml.safe_dump(smoke))
    (rows.parent.parent / "smoke.yaml").write_text("trainer: {max_epochs: 1}\n")
    monkeypatch.chdir(tmp_path)
    main(["leaderboard", "--rows", str(rows), "--rerun", "[smoke.yaml]", "--out", str(tmp_path / "runs")])
    printed = capfd.readouterr().out
    scores = json.loads((tmp_path / "runs" / "smoke" / "scores-test.json").read_text())
    assert f"| `smoke.yaml` | synthetic | {scores['mean']['membrane_f1']:.3f}" in printed
    with pytest.raises(UserError, match="ended with status"):
        leaderboard(rows, rerun=["smoke.yaml"], extra_configs=[tmp_path / "none.yaml"], out=tmp_path / "again")
