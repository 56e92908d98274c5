"""Every shipped sweep: what our command line makes of the arguments of each trial."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.resolved import resolve_words
from tests.support.trials import SWEEPS, trial_words


def _resolved(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What `lightning` would run with, from the words that the agent would start it with."""
    words = trial_words(SWEEPS[name], parameters)
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
            assert found["class_path"] == f"lightning_emseg.losses.{expected['class_path']}"
            assert found["init_args"].items() >= expected.get("init_args", {}).items()
        else:
            expected = None if value == "null" else value
            # A bool or a word for a number would compare unequal, or of another type.
            assert (found, type(found)) == (expected, type(expected)), name


def _values(name: str) -> dict[str, list[Any]]:
    """Values of every parameter; of a continuous one both ends and a number that Python writes with an exponent."""
    return {
        parameter: entry["values"] if "values" in entry else [entry["min"], entry["max"], 3.1e-5]
        for parameter, entry in sorted(SWEEPS[name]["parameters"].items())
    }


def _trials(name: str) -> list[dict[str, Any]]:
    """Trials with every value of each parameter at least once; the shorter lists begin again."""
    values = _values(name)
    numbers = range(max(map(len, values.values())))
    return [{parameter: each[number % len(each)] for parameter, each in values.items()} for number in numbers]


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", SWEEPS)
def test_trial_gets_its_values_folder_and_run(name: str) -> None:
    sweep, parameters = SWEEPS[name], _trials(name)[0]
    config = _resolved(name, parameters)
    _assert_resolved_to(config, parameters)
    logger = config["trainer"]["logger"]
    assert logger["class_path"].endswith("WandbLogger")
    assert logger["init_args"]["project"] == sweep["project"]
    words = trial_words(sweep, parameters)
    assert words[:2] == ["sh", "-c"]
    assert '"runs/sweeps/$WANDB_RUN_ID"' in words[2]
    assert (sweep["name"], sweep["method"]) == (name, "random" if name == "unet" else "grid")
    assert sweep["metric"]["goal"] in ("minimize", "maximize")


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEPS)
def test_every_value_of_a_sweep_resolves(name: str) -> None:
    for parameters in _trials(name):
        _assert_resolved_to(_resolved(name, parameters), parameters)


def test_the_shipped_sweeps_are_those_that_were_promised() -> None:
    assert set(SWEEPS) == {"attribution", "loss", "transfer", "unet"}
    losses = {json.loads(text)["class_path"] for text in _values("loss")["model.init_args.loss"]}
    assert losses == {"FocalLoss", "DiceLoss", "FocalDiceLoss", "TverskyLoss", "BCELoss"}
    starts = _values("transfer")["model.init_args.encoder_weights"]
    assert [Path(start).name.partition("_")[0] for start in starts] == ["null", "imagenet", "cem500k"]
    assert [name for name, sweep in SWEEPS.items() if "validate" in sweep["command"]] == ["attribution"]
    # The setting of the papers is one of the trials.
    assert 1.0 in _values("unet")["model.init_args.loss.init_args.dice_weight"]
    assert "resnet50" in _values("unet")["model.init_args.encoder"]
    assert 100 in _values("attribution")["trainer.callbacks.init_args.method.init_args.steps"]
