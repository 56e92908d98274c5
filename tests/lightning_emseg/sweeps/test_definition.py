"""Sweeps are read by W&B's schema and drawn by W&B's search."""

import random
from pathlib import Path
from typing import Any

import pytest

from data_modules.errors import UserError
from lightning_emseg.sweeps.definition import draw, read
from tests.support.sweep_files import grid_of, write_sweep


def test_a_grid_is_drawn_without_repetition_and_ends(tmp_path: Path) -> None:
    drawn = draw(grid_of(tmp_path), 10, 0)
    assert sorted((trial["a"], trial["b.c"]) for trial in drawn) == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]


def test_draws_depend_on_the_seed_alone(tmp_path: Path) -> None:
    entries = {"lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-2}, "k": {"value": 3}}
    sweep = read(write_sweep(tmp_path, method="random", parameters=entries))
    random.seed(11)
    before = random.getstate()
    first = draw(sweep, 50, 4)
    assert random.getstate() == before
    random.seed(12)
    assert draw(sweep, 50, 4) == first
    assert draw(sweep, 50, 5) != first
    rates = [trial["lr"] for trial in first]
    assert all(type(rate) is float and 1e-5 <= rate <= 1e-2 for rate in rates)
    # Uniform in the logarithm: half of them below the geometric mean.
    assert 15 <= sum(rate < 10**-3.5 for rate in rates) <= 35
    assert {trial["k"] for trial in first} == {3}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"method": "gird", "parameters": {"a": {"values": [1]}}}, "gird"),
        ({"method": "grid", "parameters": {"a": {"valuse": [1]}}}, "valuse"),
        ({"method": "grid", "parameters": {"a": {"min": 3, "max": 1}}}, "min 3 is not less than max 1"),
        ({"method": "grid", "parameters": {"trainer.callbacks+": {"values": [1]}}}, "callbacks+"),
        ({"method": "grid"}, "parameters"),
        ({"method": "grid", "parameters": {"a": {"values": [1]}}, "comand": []}, "comand"),
    ],
)
def test_what_wandb_would_refuse_is_refused_by_name(tmp_path: Path, content: dict[str, Any], told: str) -> None:
    path = write_sweep(tmp_path, **content)
    with pytest.raises(UserError) as caught:
        read(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "3"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(UserError, match=r"s\.yaml"):
        read(tmp_path / "s.yaml")


def test_a_missing_sweep_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no sweep at .*none\.yaml"):
        read(tmp_path / "none.yaml")


def test_draws_that_need_results_are_refused(tmp_path: Path) -> None:
    metric = {"name": "f", "goal": "maximize"}
    sweep = read(write_sweep(tmp_path, method="bayes", metric=metric, parameters={"a": {"min": 0.1, "max": 1.0}}))
    with pytest.raises(UserError, match="bayes"):
        draw(sweep, 1, 0)


def test_without_wandbs_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("lightning_emseg.sweeps.definition.importlib.import_module", missing)
    with pytest.raises(UserError, match="pip install"):
        grid_of(tmp_path)
