"""The plot of image sharpness: what is drawn is what was given."""

import io
import math

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from PIL import Image

from lightning_emseg.commands.quality import sharpness_figure
from lightning_emseg.metrics.sharpness import Sharpness, SharpnessLevel

NONE = Sharpness(0, 0, 0, 0)


def level(nm: float, *criteria: float) -> SharpnessLevel:
    return SharpnessLevel("test/a", f"{nm} nm", (9, 9), (1.0, nm), NONE, Sharpness(*criteria), NONE)


ONE = [level(4, 10, 5, 100, 80), level(8, 20, 6, 90, 60), level(16, 30, 7, 70, -5)]
TWO = [ONE, [level(4, 14, 9, 120, 90), level(8, 22, 8, 95, 70), level(16, 30, 3, 60, 10)]]


def panel(mosaics: list[list[SharpnessLevel]], title: str) -> Axes:
    return next(axes for axes in sharpness_figure(mosaics).axes if axes.get_title() == title)


def thin_lines(axes: Axes) -> list[list[list[float]]]:
    return [np.asarray(line.get_xydata()).tolist() for line in axes.lines if line.get_linewidth() == 1]


def test_each_criterion_has_a_panel() -> None:
    figure = sharpness_figure(TWO)
    assert [axes.get_title() for axes in figure.axes] == ["Brenner", "SMD2", "Variance", "Vollath"]
    assert "nm per pixel" in {axes.get_xlabel() for axes in figure.axes}


def test_each_mosaic_is_a_thin_line() -> None:
    assert thin_lines(panel(TWO, "Brenner")) == [
        [[4, 10], [8, 20], [16, 30]],
        [[4, 14], [8, 22], [16, 30]],
    ]
    assert thin_lines(panel(TWO, "Vollath"))[0] == [[4, 80], [8, 60], [16, -5]]


def test_levels_are_ordered_by_pixel_size() -> None:
    shuffled = [[levels[2], levels[0], levels[1]] for levels in TWO]
    assert thin_lines(panel(shuffled, "SMD2")) == thin_lines(panel(TWO, "SMD2"))


def test_mean_and_standard_error_are_thick() -> None:
    axes = panel(TWO, "Variance")
    (bars,) = axes.containers
    assert isinstance(bars, ErrorbarContainer)
    line, _, (segments,) = bars.lines
    assert line is not None
    assert line.get_linewidth() > 2
    np.testing.assert_allclose(np.asarray(line.get_xydata()), [[4.0, 110.0], [8.0, 92.5], [16.0, 65.0]])
    spans = [float(np.ptp(segment[:, 1])) for segment in map(np.asarray, segments.get_segments())]
    # SE of two values is half of their difference: |a − b| / √2 / √2.
    assert spans == pytest.approx([20, 5, 10])
    assert math.isclose(np.std([100, 120], ddof=1) / math.sqrt(2), 10)


def test_one_mosaic_has_neither_mean_nor_error() -> None:
    axes = panel([ONE], "Variance")
    assert not axes.containers
    assert len(axes.lines) == 1


def test_panels_begin_at_0_unless_values_are_negative() -> None:
    assert panel(TWO, "Variance").get_ylim()[0] == 0
    assert panel(TWO, "Vollath").get_ylim()[0] < -5


def test_labels_of_neighbouring_levels_do_not_overlap() -> None:
    sizes = [2.18, 2.2, 4.36, 19.6, 21.2]
    axes = panel([[level(size, 1, 1, 1, 1) for size in sizes]], "Brenner")
    assert list(axes.get_xticks()) == [2.18, 4.36, 19.6]


def test_saved_plot_shows_both_colours() -> None:
    file = io.BytesIO()
    sharpness_figure(TWO).savefig(file, format="png", dpi=50)
    colours = {tuple(pixel) for pixel in np.asarray(Image.open(file).convert("RGB")).reshape(-1, 3).tolist()}
    # Okabe and Ito's sky blue and vermilion.
    assert {(86, 180, 233), (213, 94, 0)} <= colours


def test_mosaics_must_have_the_same_levels() -> None:
    with pytest.raises(ValueError, match="zip"):
        sharpness_figure([ONE, TWO[1][:2]])
    with pytest.raises(ValueError, match="no mosaics"):
        sharpness_figure([])
