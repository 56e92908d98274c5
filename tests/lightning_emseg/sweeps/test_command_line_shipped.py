"""Every shipped sweep: what W&B's schema says of it, and what our command line makes of every trial's arguments."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lightning_emseg.sweeps.command_line import command_line, verb_of
from lightning_emseg.sweeps.definition import Sweep, draw, read
from tests.support import ROOT
from tests.support.resolved import resolve_words

SHIPPED = sorted((ROOT / "experiments" / "sweeps").glob("*.yaml"))


def _resolved(sweep: Sweep, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What `lightning` would run with, from the words that the agent would start it with."""
    words = command_line(sweep, parameters)
    return resolve_words(*words[words.index("lightning_emseg") + 1 :])


def _at(content: Any, name: str) -> Any:
    for key in name.split("."):
        # What has no number is the callback that was added last.
        content = (content[-1] if isinstance(content, list) else content)[key]
    return content


def _assert_resolved_to(config: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    for name, value in parameters.items():
        found = _at(config, name)
        if isinstance(value, str) and value.startswith("{"):
            expected = json.loads(value)
            assert found["class_path"] == expected["class_path"]
            assert found["init_args"].items() >= expected.get("init_args", {}).items()
        else:
            expected = None if value == "null" else value
            # A bool or a word for a number would compare unequal, or of another type.
            assert (found, type(found)) == (expected, type(expected)), name


def _candidates(sweep: Sweep) -> dict[str, list[Any]]:
    """Values of every parameter; of a continuous one both ends and a number that Python writes with an exponent."""
    return {
        name: entry["values"] if "values" in entry else [entry["min"], entry["max"], 3.1e-5]
        for name, entry in sweep.config["parameters"].items()
    }


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_trial_gets_its_values_folder_and_run(path: Path) -> None:
    sweep = read(path)
    (parameters,) = draw(sweep, 1, 0)
    config = _resolved(sweep, parameters)
    _assert_resolved_to(config, parameters)
    logger = config["trainer"]["logger"]
    assert logger["class_path"].endswith("WandbLogger")
    assert logger["init_args"]["project"] == sweep.config["project"]
    words = command_line(sweep, parameters)
    assert words[:2] == ["sh", "-c"]
    assert '"runs/sweeps/$WANDB_RUN_ID"' in words[2]
    assert verb_of(sweep) in words
    assert sweep.config["name"] == sweep.name


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_value_of_a_sweep_resolves(path: Path) -> None:
    sweep = read(path)
    candidates = dict(sorted(_candidates(sweep).items()))
    for values in _in_turn(*candidates.values()):
        parameters = dict(zip(candidates, values, strict=True))
        _assert_resolved_to(_resolved(sweep, parameters), parameters)


def _in_turn(*lists: list[Any]) -> Iterator[tuple[Any, ...]]:
    """Every value of each list at least once; the shorter ones begin again."""
    for number in range(max(map(len, lists))):
        yield tuple(each[number % len(each)] for each in lists)


def test_the_shipped_sweeps_are_those_that_were_promised() -> None:
    sweeps = {path.stem: read(path) for path in SHIPPED}
    assert set(sweeps) == {"attribution", "loss", "transfer", "unet"}
    losses = {
        json.loads(text)["class_path"].rpartition(".")[2]
        for text in _candidates(sweeps["loss"])["model.init_args.loss"]
    }
    assert losses == {"FocalLoss", "DiceLoss", "FocalDiceLoss", "TverskyLoss", "BCELoss"}
    starts = _candidates(sweeps["transfer"])["model.init_args.encoder_weights"]
    assert [Path(start).name.partition("_")[0] for start in starts] == ["null", "imagenet", "cem500k"]
    assert [verb_of(sweep) for sweep in sweeps.values()].count("validate") == 1
    # The setting of the papers is one of the trials.
    assert {1.0} <= set(_candidates(sweeps["unet"])["model.init_args.loss.init_args.dice_weight"])
    assert "resnet50" in _candidates(sweeps["unet"])["model.init_args.encoder"]
    assert 100 in _candidates(sweeps["attribution"])["trainer.callbacks.init_args.method.init_args.steps"]
