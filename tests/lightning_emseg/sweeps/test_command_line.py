"""Commands of trials are put together as by W&B's agent."""

from pathlib import Path

import pytest

from data_modules.errors import UserError
from lightning_emseg.sweeps.command_line import command_line, training_first, verb_of
from tests.support.sweep_files import grid_of


def test_macros_are_filled_in_as_by_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMSEG_TEST_WHERE", "here")
    words = ["${env}", "${interpreter}", "-m", "${program}", "fit", "--at", "${envvar:EMSEG_TEST_WHERE}", "${args}"]
    sweep = grid_of(tmp_path, program="lightning_emseg", command=words)
    expected = ["/usr/bin/env", "python", "-m", "lightning_emseg", "fit", "--at", "here", "--a=1", "--b.c={'x': 2}"]
    assert command_line(sweep, {"a": 1, "b.c": {"x": 2}}) == expected
    # Nothing of one trial stays for the next.
    assert command_line(sweep, {"a": 2})[-1] == "--a=2"
    assert command_line(sweep, {})[5:] == ["--at", "here"]
    other = grid_of(tmp_path, command=["x", "${args_no_equals}", "$@"])
    assert command_line(other, {"a": 1}) == ["x", "--a", "1", "$@"]


def test_command_without_a_verb_is_refused(tmp_path: Path) -> None:
    assert verb_of(grid_of(tmp_path, command=["python", "-m", "lightning_emseg", "test", "${args}"])) == "test"
    with pytest.raises(UserError, match="none of fit"):
        verb_of(grid_of(tmp_path, command=["python", "train.py", "${args}"]))


def test_training_for_weights_uses_the_same_words() -> None:
    words = ["x", "validate", "--config", "e.yaml", "--ckpt_path", "c.ckpt", "--data.store=s"]
    assert training_first(words) == ["x", "fit", "--config", "e.yaml", "--data.store=s"]
