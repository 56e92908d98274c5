"""The plot of firing rates: lines, bands and ranges are what was measured."""

import io

import numpy as np
import pytest

from lightning_emseg.core.tables import MeanSE
from lightning_emseg.features.distortions import DISTORTIONS
from lightning_emseg.features.firing_rate import FiringRates
from lightning_emseg.report.firing_rate_plot import firing_rate_figure


def rates(height: float, selective: int = 10) -> FiringRates:
    curves = {
        each.name: [MeanSE(height / (1 + index), 0.01, selective) for index in range(len(each.strengths))]
        for each in DISTORTIONS
    }
    return FiringRates(512, selective, curves)


def test_panels_show_distortions_with_lines_for_encoders() -> None:
    figure = firing_rate_figure({"a": rates(1.0), "b": rates(0.8)})
    for axes, distortion in zip(figure.axes, DISTORTIONS, strict=True):
        assert axes.get_xlabel() == distortion.axis
        # Dotted vertical lines have two points, and no marker.
        first, second = (np.asarray(line.get_xydata()) for line in axes.lines if line.get_marker() == ".")
        np.testing.assert_allclose(first[:, 1], 1 / np.arange(1, len(distortion.strengths) + 1))
        np.testing.assert_allclose(second[:, 1], 0.8 * first[:, 1])
        assert first[:, 0].tolist() == second[:, 0].tolist() == list(distortion.strengths)
        ends = [np.asarray(line.get_xydata())[0, 0] for line in axes.lines if line.get_marker() != "."]
        assert ends == list(distortion.pretraining or ())


def test_bands_span_one_standard_error() -> None:
    axes = firing_rate_figure({"a": rates(1.0)}).axes[0]
    (band,) = axes.collections
    (path,) = band.get_paths()
    vertices = np.asarray(path.vertices)
    assert np.ptp(vertices[np.isclose(vertices[:, 0], 0), 1]) == pytest.approx(0.02)


def test_legend_counts_selective_neurons() -> None:
    (legend,) = firing_rate_figure({"a": rates(1.0, 10), "b": rates(0.5, 0)}).legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["a (10 of 512 neurons)", "b (0 of 512 neurons)", "range of the paper's pretraining"]


def test_many_encoders_and_missing_rates_are_drawn() -> None:
    missing = FiringRates(
        512, 0, {each.name: [MeanSE(float("nan"), None, 0)] * len(each.strengths) for each in DISTORTIONS}
    )
    file = io.BytesIO()
    firing_rate_figure({**{str(number): rates(0.5) for number in range(20)}, "none": missing}).savefig(file, dpi=50)
    assert file.getbuffer().nbytes > 10_000


def test_unused_panels_are_hidden() -> None:
    figure = firing_rate_figure({"a": rates(1.0)}, DISTORTIONS[:2])
    assert [axes.get_visible() for axes in figure.axes] == [True, True, False]
    assert len(firing_rate_figure({"a": rates(1.0)}, DISTORTIONS[:1]).legends[0].get_texts()) == 1
