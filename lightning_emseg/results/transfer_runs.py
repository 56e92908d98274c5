"""Runs of transfer benchmarks: data, initialisation, iterations, seed and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lightning_emseg.core.tables import mean_se
from lightning_emseg.evaluation.score_table import ScoreTable
from lightning_emseg.results.files import RunFileError, flatten_settings
from lightning_emseg.results.papers import Term
from lightning_emseg.results.runs import CollectedRun

_MULTICLASS, _AT_ONE_HALF = "mean_iou", "{label}_iou_at_0.5"
_NOT_COMPARED = (
    "seed_everything",
    "ckpt_path",
    "checkpoint.",
    "writer.",
    *(f"trainer.{name}" for name in ("default_root_dir", "logger", "callbacks", "enable_", "log_every", "max_steps")),
    *(f"data.init_args.{name}" for name in ("store", "num_workers")),
    *(f"model.init_args.{name}" for name in ("encoder", "freeze_encoder", "use_norms", "grey_", "metrics")),
)
"""Beginnings of settings in which runs of a row may differ: what the table tells apart, and what changes no result."""


@dataclass(frozen=True)
class TransferRun:
    """Fit and test of a transfer benchmark.

    Attributes:
        folder: Run folder.
        store: Name of the store, without folders and ending.
        label: Label that was learned.
        encoder: Name of the encoder.
        weights: Name of the file that the encoder started from, or of smp's weights; ``None`` for random ones.
        frozen: Whether it kept them.
        iterations: Training steps.
        seed: Random seed.
        scores: Scores of the test mosaics.
        settings: All other settings, by dotted key; those that are off or not given are left out.
    """

    folder: Path
    store: str
    label: str
    encoder: str
    weights: str | None
    frozen: bool
    iterations: int
    seed: int
    scores: ScoreTable
    settings: Mapping[str, str]

    def score(self, terms: Sequence[Term] = ()) -> float:
        """Compute the mean over terms, each the mean of a column over mosaics.

        Args:
            terms: None for the mean over foreground classes, or where there is one class only, its IoU at a
                probability of 0.5.

        Raises:
            RunFileError: if the run has no such column, or no mosaic of that name.
        """
        if not terms:
            is_multiclass = any(_MULTICLASS in row for row in self.scores.rows.values())
            terms = (Term(_MULTICLASS if is_multiclass else _AT_ONE_HALF),)
        return sum(self._value(term) for term in terms) / len(terms)

    def _value(self, term: Term) -> float:
        column = term.column.format(label=self.label)
        rows = [row for key, row in self.scores.rows.items() if fnmatchcase(key.partition("/")[2], term.mosaics)]
        if not rows:
            raise RunFileError(f"it has no test mosaic named {term.mosaics}")
        if not any(column in row for row in rows):
            raise RunFileError(f"its scores have no column {column}; test it with the metric that makes it")
        found = mean_se([row.get(column, float("nan")) for row in rows])
        if not found.n:
            raise RunFileError(f"no test mosaic has a number in the column {column}")
        return found.mean


def make_transfer_run(run: CollectedRun) -> TransferRun:
    """Find out which cell of a table a run belongs to.

    Raises:
        RunFileError: if the run is not finished, or its files do not say what a table needs.
    """
    config, scores = run.configs.get("config.yaml"), run.scores.get("test")
    if config is None:
        raise run.make_error("config.yaml", "`lightning fit` writes one")
    if scores is None:
        raise run.make_error("scores-test.json", "run `lightning test` with its config.yaml")
    if not scores.rows or scores.partial:
        raise RunFileError("its test was cut short: run `lightning test` on whole mosaics")
    network, data = (_init_args(config, part) for part in ("model", "data"))
    store, seed = data.get("store"), config.get("seed_everything")
    if not network.get("encoder"):
        raise RunFileError(f"its network, {run.class_name('model')}, has no encoder that could be initialised")
    if "encoder_weights" not in network:
        raise RunFileError("its config.yaml does not say what its encoder started from (encoder_weights)")
    weights = network["encoder_weights"]
    if network.get("start_from"):
        raise RunFileError("it is the second stage of another run (model.init_args.start_from)")
    if not store:
        raise RunFileError("its config.yaml names no store")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise RunFileError("its config.yaml names no seed (seed_everything)")
    return TransferRun(
        folder=run.folder,
        store=Path(str(store).rstrip("/")).name.removesuffix(".zarr"),
        label=str(data.get("label", "membrane")),
        encoder=str(network["encoder"]),
        weights=Path(weights).name if weights else None,
        frozen=bool(network.get("freeze_encoder")),
        iterations=_iterations(run.steps, config),
        seed=seed,
        scores=scores,
        settings=_settings(config, run.configs.get("config-test.yaml", {})),
    )


def _init_args(config: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    section = config.get(part)
    if not isinstance(section, Mapping):
        raise RunFileError(f"its config.yaml has no {part}")
    found = section.get("init_args")
    return found if isinstance(found, Mapping) else {}


def _iterations(done: int, config: Mapping[str, Any]) -> int:
    wanted = int((config.get("trainer") or {}).get("max_steps") or -1)
    # With another logger nothing says how many were done.
    if wanted > 0 and 0 < done < wanted:
        raise RunFileError(f"its training ended after {done:,} of {wanted:,} steps")
    if wanted <= 0 and not done:
        raise RunFileError("nothing says how many steps it trained: neither trainer.max_steps nor a metrics.csv")
    return wanted if wanted > 0 else done


def _settings(config: Mapping[str, Any], test_config: Mapping[str, Any]) -> dict[str, str]:
    found = {
        key: str(value)
        for key, value in flatten_settings(config)
        if value not in (None, [], {}) and value is not False and not key.startswith(_NOT_COMPARED)
    }
    tested = test_config.get("ckpt_path")
    return {**found, "the tested checkpoint": Path(str(tested)).name} if tested else found
