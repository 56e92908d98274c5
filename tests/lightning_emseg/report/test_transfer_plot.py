"""The curves of IoU against iterations: what is drawn is what was given."""

import io
from collections.abc import Mapping

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from PIL import Image

from lightning_emseg.metrics.table import Summary
from lightning_emseg.report.transfer_plot import Curve, iterations_figure

MOCO: Curve = {10000: Summary(0.8, 0.02, 5), 100: Summary(0.4, 0.04, 5), 500: Summary(0.6, None, 1)}
RANDOM: Curve = {100: Summary(0.1, 0.01, 5), 10000: Summary(0.5, 0.05, 5)}
PANELS: Mapping[str, Mapping[str, Curve]] = {
    "Lucchi++": {"random": RANDOM, "MoCoV2": MOCO},
    "UroCell": {"MoCoV2": {500: Summary(0.3, 0.01, 5)}},
}


def drawn(container: object) -> list[list[float]]:
    assert isinstance(container, ErrorbarContainer)
    line = container.lines[0]
    assert line is not None
    points: list[list[float]] = np.asarray(line.get_xydata()).tolist()
    return points


def test_panels_show_iou_and_its_share() -> None:
    upper, _, lower, empty = iterations_figure(PANELS).axes
    assert [drawn(each) for each in upper.containers] == [
        [[100, 0.1], [10000, 0.5]],
        [[100, 0.4], [500, 0.6], [10000, 0.8]],
    ]
    np.testing.assert_allclose(drawn(lower.containers[0]), [[100, 20], [10000, 100]])
    np.testing.assert_allclose(drawn(lower.containers[1]), [[100, 50], [500, 75], [10000, 100]])
    # Of one number of iterations there is no share.
    assert not empty.containers
    assert upper.get_xscale() == "log"


def test_shares_refer_to_10000_iterations() -> None:
    long = {1000: Summary(0.3, None, 1), 10000: Summary(0.6, None, 1), 30000: Summary(0.9, None, 1)}
    late = {20000: Summary(0.5, None, 1), 30000: Summary(0.6, None, 1)}
    _, lower = iterations_figure({"Lucchi++": {"long": long, "late": late}}).axes
    np.testing.assert_allclose(drawn(lower.containers[0]), [[1000, 50], [10000, 100], [30000, 150]])
    np.testing.assert_allclose(drawn(lower.containers[1])[1], [30000, 100])


def test_tick_labels_do_not_overlap() -> None:
    steps = (100, 500, 1000, 2500, 5000, 10000, 30000)
    upper, _ = iterations_figure({"Lucchi++": {"a": {step: Summary(0.5, None, 1) for step in steps}}}).axes
    assert list(upper.get_xticks()) == [100, 1000, 5000, 30000]


def test_bars_are_standard_errors() -> None:
    upper, _, lower, _ = iterations_figure(PANELS).axes
    for axes, spans in ((upper, [0.08, 0.0, 0.04]), (lower, [10.0, 0.0, 5.0])):
        container = axes.containers[1]
        assert isinstance(container, ErrorbarContainer)
        segments = container.lines[2][0].get_segments()
        assert [float(np.ptp(np.asarray(each)[:, 1])) for each in segments] == pytest.approx(spans)


def test_initialisations_keep_their_colour() -> None:
    first, second, _, _ = iterations_figure(PANELS).axes
    colours = [each.lines[0].get_color() for axes in (first, second) for each in axes.containers]  # type: ignore[attr-defined]
    assert colours[1] == colours[2] != colours[0]


def test_plot_is_saved_and_needs_benchmarks() -> None:
    file = io.BytesIO()
    iterations_figure(PANELS).savefig(file, format="png")
    assert min(Image.open(file).size) > 500
    with pytest.raises(ValueError, match="no benchmarks"):
        iterations_figure({})
