"""Panels of windows: images, marks, boxes, bars and colours against what they claim to show."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_hex, to_rgb
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar  # type: ignore[import-untyped]
from numpy.typing import NDArray

from data_modules.geometry import Shape
from lightning_emseg.attribution.areas import THRESHOLDS, Values, measure_sizes
from lightning_emseg.attribution.method import Field
from lightning_emseg.attribution.pictures import (
    EVIDENCE,
    OUTCOME_COLOURS,
    figure_picture,
    nice_length,
    project_field,
    window_figure,
)
from lightning_emseg.attribution.table import FieldRow
from lightning_emseg.attribution.windows import Window
from lightning_emseg.core.pictures import Picture

# Machado, Oliveira and Fernandes, 2009, severity 1: protan, deutan, tritan; on linear RGB.
SEEN_BY = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    x, y, z = np.cbrt(xyz / (0.9505, 1, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def measured(window: Window, pixel: Shape, outcome: str, values: Values) -> tuple[FieldRow, Field]:
    sizes = measure_sizes(values, values.shape, window.pixel_size_nm, THRESHOLDS)
    origin = (0,) * values.ndim
    return FieldRow("test/m", pixel, origin, outcome, 1.0, 0.0, 0.0, sizes), Field(pixel, origin, values, 1.0, 0.0)


def make_window(shape: Shape, seed: int = 0) -> tuple[Window, Picture]:
    random = np.random.default_rng(seed)
    image = random.integers(0, 255, (1, *shape)).astype(np.float32)
    truth = random.choice(np.array([0, 1, 255], np.uint8), shape)
    inside = tuple(slice(0, side) for side in shape)
    window = Window("test/m", image, truth, inside, (40.0, 4.0, 4.0)[-len(shape) :], (1.0,) * len(shape))
    return window, random.integers(0, 255, shape, dtype=np.uint8)


def field_at(shape: Shape, at: dict[Shape, float]) -> Values:
    values = np.zeros(shape, np.float32)
    for place, value in at.items():
        values[place] = value
    return values


def image_of(axes: Axes) -> NDArray[np.float64]:
    return np.asarray(axes.images[0].get_array(), np.float64)


def test_first_row_shows_image_probability_and_truth() -> None:
    window, probability = make_window((20, 30))
    shown = [measured(window, (4, 5), "FP", field_at((20, 30), {(4, 5): 1.0}))]
    cells = window_figure(window, probability, shown, THRESHOLDS, None).axes
    np.testing.assert_array_equal(image_of(cells[0]), window.image[0])
    np.testing.assert_array_equal(image_of(cells[1]), probability)
    # Of ignored truth the grey level is 90.
    np.testing.assert_array_equal(image_of(cells[2]), np.array([0, 255, 90])[np.minimum(window.truth, 2)])
    for axes in cells[:3]:
        ring = axes.lines[0]
        np.testing.assert_array_equal(ring.get_xydata(), [[5, 4]])
        assert to_hex(ring.get_color()) == OUTCOME_COLOURS["FP"]
        assert ring.get_fillstyle() == "none"


def test_fields_are_normalised_and_in_place() -> None:
    window, probability = make_window((20, 30))
    shown = [measured(window, (4, 5), "FP", field_at((20, 30), {(4, 5): -2.0, (7, 9): 1.0}))]
    axes = window_figure(window, probability, shown, THRESHOLDS, None).axes[4]
    np.testing.assert_array_equal(image_of(axes), field_at((20, 30), {(4, 5): -1.0, (7, 9): 0.5}))
    assert tuple(axes.images[0].get_extent()) == (-0.5, 29.5, 19.5, -0.5)
    assert to_hex(axes.spines["left"].get_edgecolor()) == OUTCOME_COLOURS["FP"]
    assert axes.get_title(loc="left") == "1  FP  at y 4, x 5\nS(0.01) = 16 nm²\nF(x) = 1.00, F(x') = 0.00"


def screen_places(axes: Axes) -> Callable[[int, int], tuple[int, int]]:
    """Find where the pixels of an image are in its figure, which has to be drawn first."""

    def place(y: int, x: int) -> tuple[int, int]:
        across, up = axes.transData.transform((x, y))
        return int(axes.figure.bbox.height - up), int(across)

    return place


def test_marks_surround_pixels_and_hide_none() -> None:
    window, probability = make_window((64, 64))
    window.truth[16:25, 26:35] = 1
    shown = [measured(window, (20, 30), "FP", field_at((64, 64), {(20, 30): 1.0}))]
    figure = window_figure(window, probability, shown, THRESHOLDS, None)
    picture, cells = figure_picture(figure), figure.axes
    colour = np.multiply(to_rgb(OUTCOME_COLOURS["FP"]), 255)
    for axes, grey in zip(cells[:3], (window.image[0], probability, 255 * window.truth), strict=True):
        place = screen_places(axes)
        y, x = place(20, 30)
        np.testing.assert_allclose(picture[y, x], grey[20, 30], atol=1)
        far = place(20, 34)[1] - x
        lines = (picture[y, x : x + far], picture[y, x - far : x], picture[y : y + far, x], picture[y - far : y, x])
        assert all((np.abs(line - colour).max(axis=1) < 40).any() for line in lines)


def test_ignored_truth_is_drawn_in_grey() -> None:
    window, probability = make_window((16, 16))
    figure = window_figure(window, probability, [], THRESHOLDS, None)
    picture, place = figure_picture(figure), screen_places(figure.axes[2])
    # The scale bar is drawn over the lower part.
    for y, x in itertools.product(range(10), range(16)):
        expected = {0: 0, 1: 255, 255: 90}[int(window.truth[y, x])]
        np.testing.assert_allclose(picture[place(y, x)], expected, atol=1)


@pytest.fixture(scope="module")
def drawn_field() -> ScalarMappable:
    """Image of a field, as a panel draws it."""
    window, probability = make_window((20, 30))
    shown = [measured(window, (4, 5), "TP", field_at((20, 30), {(4, 5): 1.0}))]
    return window_figure(window, probability, shown, THRESHOLDS, None).axes[4].images[0]


@given(values=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=9))
def test_stronger_evidence_is_never_paler(drawn_field: ScalarMappable, values: list[float]) -> None:
    for sign, blue_or_red in ((1, 2), (-1, 0)):
        colours = drawn_field.to_rgba(sign * np.sort(np.array(values)), bytes=True).astype(int)
        assert np.all(np.diff(colours[:, :3].sum(axis=1)) <= 1)
        assert np.all(colours[:, blue_or_red] >= colours[:, 2 - blue_or_red])


@pytest.mark.parametrize("value", [0.0, 0.04, 0.25, 1.0])
def test_colours_follow_the_square_root(value: float) -> None:
    assert EVIDENCE(value) == pytest.approx(0.5 + 0.5 * value**0.5)
    assert EVIDENCE(-value) == pytest.approx(0.5 - 0.5 * value**0.5)


@pytest.mark.parametrize("reach", [7, (7, 7)])
@pytest.mark.parametrize(("pixel", "start"), [((30, 20), (23, 13)), ((0, 63), (0, 49)), ((60, 3), (49, 0))])
def test_boxes_enclose_all_within_reach(reach: int | Shape, pixel: Shape, start: Shape) -> None:
    window, probability = make_window((64, 64))
    shown = [measured(window, pixel, "FN", field_at((64, 64), {pixel: 1.0}))]
    cells = window_figure(window, probability, shown, THRESHOLDS, reach).axes
    boxes: Any = cells[0].patches
    (box,) = boxes
    # Seven pixels on either side of the attributed one, cut nowhere.
    assert (box.get_y() + 0.5, box.get_x() + 0.5) == start
    assert (box.get_height(), box.get_width()) == (15, 15)
    field = image_of(cells[4])
    assert field.shape == (15, 15)
    assert field[pixel[0] - start[0], pixel[1] - start[1]] == 1


def test_boxes_as_large_as_windows_are_omitted() -> None:
    window, probability = make_window((64, 64))
    shown = [measured(window, (30, 20), "FN", field_at((64, 64), {}))]
    cells = window_figure(window, probability, shown, THRESHOLDS, 30).axes
    assert not cells[0].patches
    assert image_of(cells[4]).shape == (64, 64)


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.floats(-1, 1, width=32))
)
def test_projection_keeps_the_largest_magnitude_and_its_sign(values: Values) -> None:
    found = project_field(values)
    np.testing.assert_array_equal(np.abs(found), np.abs(values).max(axis=0))
    assert (values == found).any(axis=0).all()


def test_reduced_fields_keep_their_strongest_values() -> None:
    shape = (1024, 901)
    window, probability = make_window(shape)
    values = field_at(shape, {(101, 301): 1.0, (100, 300): -0.5, (701, 900): -1.0})
    axes = window_figure(window, probability, [measured(window, (500, 500), "TP", values)], THRESHOLDS, None).axes[4]
    np.testing.assert_array_equal(image_of(axes), field_at((512, 451), {(50, 150): 1.0, (350, 450): -1.0}))
    assert tuple(axes.images[0].get_extent()) == (-0.5, 901.5, 1023.5, -0.5)


def test_pixels_of_volumes_have_a_row_each() -> None:
    shape = (5, 40, 48)
    window, probability = make_window(shape)
    pixels = [(3, 20, 20), (1, 30, 30)]
    fields = [field_at(shape, {pixel: 1.0, (0, 20, 21): -2.0}) for pixel in pixels]
    shown = [measured(window, pixel, "TP", values) for pixel, values in zip(pixels, fields, strict=True)]
    cells = window_figure(window, probability, shown, THRESHOLDS, (1, 30, 30)).axes
    for row, ((z, *_), values) in enumerate(zip(pixels, fields, strict=True)):
        image, chance, _, section, everything = cells[5 * row : 5 * row + 5]
        np.testing.assert_array_equal(image_of(image), window.image[0, z])
        np.testing.assert_array_equal(image_of(chance), probability[z])
        np.testing.assert_array_equal(image_of(section), values[z] / 2)
        np.testing.assert_array_equal(image_of(everything), project_field(values) / 2)
        assert [text.get_text() for text in image.texts] == [str(row + 1)]


@pytest.mark.parametrize(("nm", "length"), [(4.0, "50 nm"), (2.18, "20 nm"), (400.0, "5 µm")])
def test_scale_bars_have_their_stated_length(nm: float, length: str) -> None:
    window, probability = make_window((64, 64))
    window = replace(window, pixel_size_nm=(nm, nm))
    axes = window_figure(window, probability, [], THRESHOLDS, None).axes[0]
    (bar,) = (artist for artist in axes.artists if isinstance(artist, AnchoredSizeBar))
    assert bar.txt_label.get_text() == length
    stated = float(length.split()[0]) * (1000 if "µm" in length else 1)
    assert bar.size_bar.get_children()[0].get_width() * nm == pytest.approx(stated)


@given(st.floats(1e-6, 1e9))
def test_nice_lengths_are_round_and_near_limit(limit: float) -> None:
    length = nice_length(limit)
    assert limit / 2.5 * (1 - 1e-9) <= length <= limit * (1 + 1e-9)
    assert f"{length:.6e}"[:8] in ("1.000000", "2.000000", "5.000000")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("shape", "reach"), [((64, 64), None), ((100, 31), 5), ((1, 7), None), ((1, 7), 1)])
def test_any_shape_and_field_count_makes_panels(shape: Shape, reach: int | None) -> None:
    window, probability = make_window(shape)
    shown = [measured(window, (0, 3), outcome, np.ones(shape, np.float32)) for outcome in (*OUTCOME_COLOURS, "TP")]
    heights = [
        figure_picture(window_figure(window, probability, shown[:count], THRESHOLDS, reach)).shape[0]
        for count in (0, 1, 4, 5)
    ]
    assert heights[0] < heights[1] == heights[2] < heights[3]


@pytest.mark.parametrize("seen", SEEN_BY)
def test_outcome_colours_are_colour_blind_safe(seen: tuple[tuple[float, ...], ...]) -> None:
    colours = {}
    for name, colour in OUTCOME_COLOURS.items():
        share = np.array(to_rgb(colour))
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        colours[name] = lab(np.clip(np.array(seen) @ linear, 1e-6, 1))
    for first, second in itertools.combinations(colours, 2):
        # A distance of about 2.3 is just noticeable.
        assert np.linalg.norm(colours[first] - colours[second]) > 15, (first, second)
