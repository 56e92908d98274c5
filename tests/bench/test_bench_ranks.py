"""The arithmetic of the case ``ranks`` on made-up timings, and what its modes do to a network of few weights."""

from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.bench import rank_scaling, run
from tests.bench.harness import Row
from tests.bench.rank_blocks import APART, DDP, MODES, ONE, ONE_WHOLE, SILENT, WATCHED, Measured, Mode, Setting, measure
from tests.bench.rank_callbacks import AllReduces, Reduced, Silence, covered
from tests.bench.rank_scaling import Steps

SECONDS = {ONE: 1.0, ONE_WHOLE: 1.8, APART: 1.25, SILENT: 1.3, DDP: 1.625, WATCHED: 1.7}
REDUCED = Reduced(seconds=0.425, buckets=3, mib=44.5)


def made_up(speeds: tuple[float, ...] = (1.0,)) -> Steps:
    """One block of every mode at each speed of the machine."""
    seconds = {mode: [each * speed for speed in speeds] for mode, each in SECONDS.items()}
    return Steps(seconds, [REDUCED] * 4)


def by_title(steps: Steps, batch: int = 2) -> dict[str, Row]:
    rows = list(rank_scaling.scaling("Net", batch, steps, "gloo"))
    assert {row.case for row in rows} == {"ranks"}
    return {row.what.removeprefix("Net: "): row for row in rows}


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)).map(lambda span: (span[0], sum(span)))))
def test_covered_counts_every_moment_once(spans: list[tuple[int, int]]) -> None:
    assert covered(spans) == len({moment for begin, end in spans for moment in range(begin, end)})


def test_rates_count_the_patches_of_all_ranks() -> None:
    found = by_title(made_up())
    assert found["1 process, batch 2"].value == 2 / 1.0
    assert found["1 process, batch 4"].value == pytest.approx(4 / 1.8)
    assert found["2 processes on their own"].value == pytest.approx(4 / 1.25)
    assert found["2 processes, DDP, batch per rank fixed"].value == pytest.approx(4 / 1.625)
    assert found["2 processes, DDP, batch per rank fixed"].note.startswith("0.615 steps/s")


def test_efficiency_is_relative_to_undisturbed_processes() -> None:
    found = by_title(made_up())
    assert found["2 processes on their own"].ratio == pytest.approx(0.8)
    assert found["2 processes, DDP without synchronisation"].ratio == pytest.approx(1 / 1.3)
    weak, strong = (found[f"2 processes, DDP, {what} fixed"] for what in ("batch per rank", "global batch"))
    assert weak.ratio == pytest.approx((4 / 1.625) / (2 * 2 / 1.0))
    assert strong.ratio == pytest.approx((4 / 1.625) / (2 * 4 / 1.8))
    assert (weak.against, strong.against) == ("2 × 1 process, batch 2", "2 × 1 process, batch 4")


def test_communication_is_what_a_step_saves_without_synchronisation() -> None:
    found = by_title(made_up())
    share = found["communication that backward does not hide"]
    assert share.value == pytest.approx(20.0)
    under_way = found["all-reduces of gradients under way"]
    assert under_way.value == pytest.approx(425)
    assert under_way.ratio == pytest.approx(0.25)
    assert under_way.note.startswith("44.5 MiB in 3 buckets")


@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=3))
def test_slow_minutes_cancel_out_of_ratios(speeds: list[float]) -> None:
    quiet, busy = by_title(made_up()), by_title(made_up(tuple(speeds)))
    for title in quiet.keys() - {"all-reduces of gradients under way"}:
        if quiet[title].ratio is not None:
            assert busy[title].ratio == pytest.approx(quiet[title].ratio)
    title = "communication that backward does not hide"
    assert busy[title].value == pytest.approx(quiet[title].value)


def test_step_is_mean_over_ranks_that_worked() -> None:
    first = Measured({ONE: [1.0, 2.0], DDP: [3.0, 5.0]}, {WATCHED: [REDUCED]})
    second = Measured({ONE: [], DDP: [4.0, 7.0]}, {WATCHED: [REDUCED, REDUCED]})
    steps = Steps.of([first, second])
    assert steps.seconds == {ONE: [1.0, 2.0], DDP: [3.5, 6.0]}
    assert steps.reduced == [REDUCED] * 3


@pytest.mark.parametrize(("gpus", "ranks"), [(0, 2), (1, 1), (2, 2), (8, 2)])
def test_one_gpu_is_no_place_for_two_processes(gpus: int, ranks: int) -> None:
    assert rank_scaling.devices(gpus)[0] == ranks
    assert ("one GPU, so 1 process only" in rank_scaling.devices(gpus)[1]) == (gpus == 1)


def test_one_gpu_gives_rows_of_one_process() -> None:
    steps = Steps.of([Measured({ONE: [1.0], ONE_WHOLE: [1.6]}, {ONE: [], ONE_WHOLE: []})])
    rows = list(rank_scaling.single("Net", 4, steps, rank_scaling.devices(1)[1]))
    assert [row.value for row in rows] == [4.0, pytest.approx(8 / 1.6)]
    assert all("1 process only" in row.note for row in rows)


def test_every_case_has_a_module() -> None:
    assert set(run.MODULES) <= set(run.CASES)
    assert import_module(f"tests.bench.{run.MODULES['ranks']}") is rank_scaling


@pytest.mark.ddp
@pytest.mark.slow
def test_gradients_are_reduced_once_unless_silent(tmp_path: Path) -> None:
    make = partial(VanillaUNet, base_channels=2, depth=1)
    setting = Setting(make, patch=32, batch=1, precision="32-true", steps=3, rounds=2)
    modes = {
        "alone": MODES[ONE],
        "watched": MODES[WATCHED],
        "silent": Mode(2, joined=True, callbacks=(Silence, AllReduces)),
    }
    found = measure(setting, modes, 2, tmp_path)
    assert [len(rank.seconds["alone"]) for rank in found] == [2, 0]
    mib = sum(weight.numel() for weight in make().parameters()) * 4 / 2**20
    for rank in found:
        assert [step.mib for step in rank.reduced["watched"]] == pytest.approx([mib] * 6)
        assert [step.buckets for step in rank.reduced["silent"]] == [0] * 6
        assert rank.reduced["alone"] == []
        # Six timed steps in two blocks.
        within = 3 * sum(rank.seconds["watched"])
        assert 0 < sum(step.seconds for step in rank.reduced["watched"]) < within
