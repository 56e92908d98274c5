"""Curves of areas: statistics against SciPy, axes and lines against what they claim to show."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import ttest_1samp

from lightning_emseg.attribution.pictures import AreaSeries, area_figure, figure_picture, mean_and_band
from lightning_emseg.core.pictures import save

K = (0.001, 0.01, 0.05, 0.1, 0.5)


def areas(count: int, seed: int = 0) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    return np.asarray(random.lognormal(10, 0.7, (count, 1)) * np.array([5, 1, 0.4, 0.2, 0.01]), np.float64)


def line_of(axes: Axes) -> NDArray[np.float64]:
    """Abscissae and ordinates ``(2, K)`` of the first line."""
    return np.asarray(axes.lines[0].get_xydata(), np.float64).T


@pytest.mark.parametrize("count", [2, 5, 200])
def test_band_is_students_confidence_interval(count: int) -> None:
    values = areas(count)
    mean, half = mean_and_band(values)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(mean - half, expected.low, rtol=1e-9)
    np.testing.assert_allclose(mean + half, expected.high, rtol=1e-9)


def test_band_covers_the_mean_at_its_level() -> None:
    values = np.random.default_rng(1).normal(3, 2, (6, 4000))
    mean, half = mean_and_band(values)
    assert np.mean(np.abs(mean - 3) <= half) == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 4000))


def test_one_pixel_has_no_band() -> None:
    mean, half = mean_and_band(areas(1))
    np.testing.assert_array_equal(mean, areas(1)[0])
    assert np.isnan(half).all()
    figure = area_figure(K, [AreaSeries("one", areas(1), 1e6, 4.0)])
    assert all(not axes.collections for axes in figure.axes)


def test_lines_show_mean_areas_and_shares() -> None:
    values = areas(30)
    left, right = area_figure(K, [AreaSeries("TP", values, 2e6, 4.0)]).axes
    np.testing.assert_allclose(line_of(left), [K, values.mean(axis=0)])
    np.testing.assert_allclose(line_of(right), [K, 100 * values.mean(axis=0) / 2e6])
    assert (left.get_xscale(), left.get_yscale()) == ("log", "log")
    assert (right.get_xscale(), right.get_yscale()) == ("log", "linear")
    assert "nm²" in left.get_ylabel()
    assert "%" in right.get_ylabel()


def test_drawn_bands_span_the_interval() -> None:
    values = areas(12)
    right = area_figure(K, [AreaSeries("TP", values, 100.0, 4.0)]).axes[1]
    corners = np.asarray(right.collections[0].get_paths()[0].vertices)
    mean, half = mean_and_band(values)
    for k, low, high in zip(K, mean - half, mean + half, strict=True):
        heights = corners[np.isclose(corners[:, 0], k), 1]
        assert heights.min() == pytest.approx(low)
        assert heights.max() == pytest.approx(high)


def test_papers_thresholds_are_marked_in_both_panels() -> None:
    for axes in area_figure(K, []).axes:
        assert [float(np.asarray(line.get_xdata())[0]) for line in axes.lines] == [0.01, 0.05, 0.1]
        assert all(line.get_linestyle() == ":" for line in axes.lines)


def test_legend_shows_counts_and_pixel_sizes() -> None:
    series = [AreaSeries("U-RISC", areas(1234), 1e6, 2.18), AreaSeries("ISBI 2012", areas(3), 1e6, 4.0)]
    legend = area_figure(K, series).axes[1].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "U-RISC (n = 1,234, 2.18 nm/px)",
        "ISBI 2012 (n = 3, 4 nm/px)",
    ]


def test_outcomes_keep_their_colours_and_others_differ() -> None:
    names = ("one", "TP", "FP", "two", "FN", "TN", "three")
    figure = area_figure(K, [AreaSeries(name, areas(3), 1e6, 4.0) for name in names])
    colours = [to_hex(line.get_color()) for line in figure.axes[0].lines[: len(names)]]
    assert colours[1:3] == ["#009e73", "#e69f00"]
    assert colours[4] == "#cc79a7"
    assert len(set(colours)) == len(names)


def test_lines_without_outcome_look_different() -> None:
    lines = area_figure(K, [AreaSeries(str(index), areas(3), 1e6, 4.0) for index in range(12)]).axes[0].lines[:12]
    assert len({(to_hex(line.get_color()), str(line.get_linestyle())) for line in lines}) == 12


@pytest.mark.filterwarnings("error")
def test_zero_areas_draw_without_warnings() -> None:
    values = areas(3) * np.array([[0.01], [0.01], [9]])
    values[:, -1] = 0
    figure = area_figure(K, [AreaSeries("TP", values, 1e6, 4.0)])
    figure_picture(figure)
    assert np.isnan(line_of(figure.axes[0])[1, -1])
    assert figure.axes[0].get_ylim()[0] > 0


def test_picture_is_rgb_and_saved_unchanged(tmp_path: Path) -> None:
    picture = figure_picture(area_figure(K, [AreaSeries("FN", areas(9), 1e6, 4.0)]))
    # No figure stays in the registry of pyplot.
    assert pyplot.get_fignums() == []
    assert picture.dtype == np.uint8
    assert picture.shape == (630, 1425, 3)
    assert 0.5 < np.mean(picture == 255) < 1
    save(picture, tmp_path / "areas.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "areas.png")), picture)


@pytest.mark.parametrize("thresholds", [(), (0.1,), (0.0, 0.1), (0.1, 0.1), (0.2, 0.1)])
def test_thresholds_have_to_rise_from_above_zero(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="above 0 and rising"):
        area_figure(thresholds, [])


@pytest.mark.parametrize("shape", [(0, 5), (3, 4), (5,)])
def test_areas_have_to_fit_the_thresholds(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="areas of 'FP' have shape"):
        area_figure(K, [AreaSeries("FP", np.ones(shape), 1e6, 4.0)])
