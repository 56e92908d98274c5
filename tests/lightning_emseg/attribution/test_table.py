"""The table of a study against numpy, scipy and sums made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import sem

from lightning_emseg.attribution.areas import AREA, SHADOW, VOLUME, FieldSize
from lightning_emseg.attribution.method import Field
from lightning_emseg.attribution.points import OUTCOMES
from lightning_emseg.attribution.table import (
    EVERY,
    FieldRow,
    json_records,
    normalise_inside,
    read_epochs,
    read_summary,
    relative_error,
    summarise,
    summary_records,
)
from lightning_emseg.core.tables import write_csv, write_json

THRESHOLDS = (0.01, 0.05, 0.1)
ROW = FieldRow("val/a", (3, 4), (0, 0), "TP", 2.0, -1.0, 0.3, (FieldSize(AREA, (100, 40, 10), 16.0, 4096),))


@st.composite
def rows(draw: st.DrawFn) -> FieldRow:
    areas = draw(st.tuples(*[st.integers(0, 5000)] * 3))
    real = st.floats(-5, 5)
    return FieldRow(
        "val/a",
        (0, 0),
        (0, 0),
        draw(st.sampled_from([*OUTCOMES, ""])),
        draw(real),
        draw(real),
        draw(st.floats(0, 2)),
        # Mosaics of one study may differ in pixel size and size.
        (FieldSize(AREA, areas, draw(st.sampled_from([16.0, 8.72, 4.0])), draw(st.sampled_from([4096, 5000]))),),
    )


@given(made=st.lists(rows(), max_size=12))
def test_means_and_standard_errors_match_scipy(made: list[FieldRow]) -> None:
    wanted = (0.1, 0.01)
    found = {(each.outcome, each.threshold): each for each in summarise(made, THRESHOLDS, wanted)}
    names = [name for name in OUTCOMES if any(row.outcome == name for row in made)] + [EVERY] * bool(made)
    assert list(found) == [(name, k) for name in names for k in wanted]
    for (name, k), summary in found.items():
        chosen = [row for row in made if name in (row.outcome, EVERY)]
        sizes = [row.sizes[0] for row in chosen]
        counts = np.array([size.counts[THRESHOLDS.index(k)] for size in sizes], np.float64)
        areas = counts * [size.place_nm for size in sizes]
        shares = counts / [size.window for size in sizes]
        (mean,) = summary.sizes
        assert summary.pixels == len(chosen)
        np.testing.assert_allclose([mean.nm.mean, mean.share.mean], [areas.mean(), shares.mean()])
        if len(chosen) > 1:
            assert mean.nm.se == pytest.approx(sem(areas))
            assert mean.share.se == pytest.approx(sem(shares))
        else:
            assert mean.nm.se is mean.share.se is None
        errors = [row.completeness_error / max(abs(row.output - row.baseline_output), 1) for row in chosen]
        assert summary.completeness == pytest.approx(np.mean(errors))


def test_summary_matches_two_hand_computed_pixels() -> None:
    larger = (FieldSize(AREA, (200, 0, 0), 16.0, 4096),)
    found = summarise([ROW, replace(ROW, sizes=larger, completeness_error=0.0)], THRESHOLDS, [0.01])
    assert [each.outcome for each in found] == ["TP", "all"]
    # Standard deviation of 1600 and 3200 over the root of 2.
    assert found[0].sizes[0].nm.mean == 2400
    assert found[0].sizes[0].nm.se == pytest.approx(800)
    assert found[0].sizes[0].share.mean == pytest.approx(150 / 4096)
    assert found[0].completeness == pytest.approx(0.05)


def test_relative_error_has_a_floor() -> None:
    assert relative_error(ROW) == pytest.approx(0.1)
    assert relative_error(replace(ROW, baseline_output=1.9)) == pytest.approx(0.3)
    assert relative_error(replace(ROW, baseline_output=1.9), floor=0.01) == pytest.approx(3)


def test_fields_are_normalised_inside_the_mosaic() -> None:
    values = np.array([[0.1, 2.0, 9.0], [4.0, -1.0, 9.0], [9.0, 9.0, 9.0]], np.float32)
    field = Field((10, 21), (10, 20), values, 0.0, 0.0)
    # The mosaic ends at row 12 and column 22 of the window.
    inside = (slice(0, 12), slice(0, 22))
    expected = np.array([[0.025, 0.5], [1.0, -0.25]], np.float32)
    np.testing.assert_allclose(normalise_inside(field, inside), expected)
    assert AREA.counts(normalise_inside(field, inside), THRESHOLDS).tolist() == [3, 2, 2]
    whole = (slice(0, 64), slice(0, 64))
    assert AREA.counts(normalise_inside(field, whole), THRESHOLDS).tolist() == [8, 7, 7]


def test_a_field_of_zeros_has_no_area() -> None:
    field = Field((0, 0), (0, 0), np.zeros((4, 4), np.float32), 0.0, 0.0)
    assert AREA.counts(normalise_inside(field, (slice(0, 4), slice(0, 4))), THRESHOLDS).tolist() == [0, 0, 0]


def test_uncounted_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="not in list"):
        summarise([ROW], THRESHOLDS, [0.2])


VOLUME_SIZES = (FieldSize(VOLUME, (90, 30, 10), 640.0, 4096), FieldSize(SHADOW, (60, 20, 5), 16.0, 1024))


@pytest.mark.parametrize("sizes", [ROW.sizes, VOLUME_SIZES])
def test_summaries_are_read_as_written(tmp_path: Path, sizes: tuple[FieldSize, ...]) -> None:
    # A single FP has no standard error.
    made = [replace(ROW, sizes=sizes), replace(ROW, sizes=sizes), replace(ROW, sizes=sizes, outcome="FP")]
    table, curve = summarise(made, THRESHOLDS, [0.01]), summarise(made, THRESHOLDS, THRESHOLDS)
    path = tmp_path / "summary.json"
    write_json(path, {"summary": json_records(table), "curve": json_records(curve), "method": {"steps": 20}})
    assert read_summary(path) == (table, curve, {"steps": 20})
    for epoch in (0, 4):
        records = [{"epoch": epoch, "step": 9, **record} for record in summary_records(table)]
        write_csv(tmp_path / "summary-fit.csv", records, append=True)
    assert read_epochs(tmp_path / "summary-fit.csv") == [
        replace(summary, epoch=epoch) for epoch in (0, 4) for summary in table
    ]
