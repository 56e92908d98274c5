"""Panels of attribution fields: colours against ColorBrewer's, places of marks, boxes and bars against geometry."""

import itertools
import math

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lightning_emseg.attribution.panels import (
    OUTCOME_COLOURS,
    PanelField,
    attribution_panel,
    field_colours,
    font_of,
    nice_length,
    wrapped,
)
from lightning_emseg.core.pictures import Picture

STRONGEST, STRONGEST_AGAINST = (5, 48, 97), (103, 0, 31)
# Machado, Oliveira and Fernandes, 2009, severity 1: protan, deutan, tritan; on linear RGB.
SEEN_BY = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
)


def window(shape: tuple[int, int], seed: int = 0) -> tuple[Picture, Picture, Picture]:
    random = np.random.default_rng(seed)
    image, probability = (random.integers(100, 150, shape, dtype=np.uint8) for _ in range(2))
    truth = (random.random(shape) < 0.3).astype(np.uint8)
    return image, probability, truth


def one_field(
    shape: tuple[int, int], outcome: str, pixel: tuple[int, int], at: dict[tuple[int, int], float]
) -> PanelField:
    values = np.zeros(shape, np.float32)
    for place, value in at.items():
        values[place] = value
    return PanelField(outcome, pixel, values, "S(0.01) = 4 nm², F(x) = −1.5")


def bounds(picture: Picture, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """First and last row, first and last column of a colour."""
    rows, columns = np.nonzero((picture == colour).all(axis=-1))
    assert rows.size, f"no {colour} in the picture"
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


def inside_of_frame(picture: Picture, outcome: str) -> Picture:
    """What the frame of the outcome's only field encloses; that frame has the longest run of its colour."""
    same = (picture == OUTCOME_COLOURS[outcome]).all(axis=-1)
    rows = np.flatnonzero(same.sum(axis=1) > 350)
    columns = np.flatnonzero(same[rows[0] :].sum(axis=0) > 350)
    cuts = [int(np.flatnonzero(np.diff(edge) > 1)[0]) for edge in (rows, columns)]
    return picture[rows[cuts[0]] + 1 : rows[cuts[0] + 1], columns[cuts[1]] + 1 : columns[cuts[1] + 1]]


def first_row(picture: Picture, index: int) -> Picture:
    """Image, probability or truth of a window of 64 × 64 px, shown six times as large, inside its black frame."""
    step = picture.shape[1] // 4
    cell = picture[:440, index * step : (index + 1) * step]
    top, left = (np.flatnonzero((cell == 0).all(axis=-1).sum(axis=axis) > 384)[0] + 1 for axis in (1, 0))
    return cell[top : top + 384, left : left + 384]


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    x, y, z = np.cbrt(xyz / (0.9505, 1, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("stop", range(11))
def test_colours_follow_color_brewer_by_square_root(stop: int) -> None:
    place = -1 + stop / 5
    found = field_colours(np.array([[math.copysign(place**2, place)]], np.float32))[0, 0]
    expected = 255 * np.array(matplotlib.colormaps["RdBu"]((place + 1) / 2)[:3])
    if stop == 5:
        assert found.tolist() == [255, 255, 255]
    else:
        np.testing.assert_allclose(found, expected, atol=3)


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=9))
def test_stronger_evidence_is_never_paler(values: list[float]) -> None:
    field = np.sort(np.array([values], np.float32))
    for sign, blue_or_red in ((1, 2), (-1, 0)):
        colours = field_colours(np.asarray(sign * field, np.float32))[0].astype(int)
        assert np.all(np.diff(colours.sum(axis=1)) <= 1)
        assert np.all(colours[:, blue_or_red] >= colours[:, 2 - blue_or_red])


@pytest.mark.parametrize("value", [1.1, -2.0, math.nan, math.inf])
def test_fields_that_are_not_normalised_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="normalised to −1…1"):
        field_colours(np.array([[0.0, value]], np.float32))


@pytest.mark.parametrize("seen", SEEN_BY)
def test_outcome_colours_are_colour_blind_safe(seen: tuple[tuple[float, ...], ...]) -> None:
    colours = {}
    for name, colour in OUTCOME_COLOURS.items():
        share = np.array(colour) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        colours[name] = lab(np.clip(np.array(seen) @ linear, 1e-6, 1))
    for first, second in itertools.combinations(colours, 2):
        # A distance of about 2.3 is just noticeable.
        assert np.linalg.norm(colours[first] - colours[second]) > 15, (first, second)


def test_values_are_drawn_at_their_place() -> None:
    shape = (64, 64)
    field = one_field(shape, "TP", (40, 20), {(5, 50): 1.0, (6, 50): -1.0})
    framed = inside_of_frame(attribution_panel(*window(shape), [field], 4.0), "TP")
    assert framed.shape == (384, 384, 3)  # 6 × 64
    assert bounds(framed, STRONGEST) == (30, 35, 300, 305)
    assert bounds(framed, STRONGEST_AGAINST) == (36, 41, 300, 305)


@pytest.mark.parametrize(
    ("pixel", "start"), [((30, 30), (22, 22)), ((0, 63), (0, 48)), ((63, 3), (48, 0)), ((8, 55), (0, 47))]
)
def test_zoomed_fields_are_cut_inside_the_window(pixel: tuple[int, int], start: tuple[int, int]) -> None:
    shape = (64, 64)
    image, probability, truth = window(shape)
    field = one_field(shape, "FN", pixel, {pixel: 1.0})
    picture = attribution_panel(image, probability, truth, [field], 4.0, zoom_px=16)
    framed = inside_of_frame(picture, "FN")
    top, left = ((at - first) * 24 for at, first in zip(pixel, start, strict=True))
    assert bounds(framed, STRONGEST) == (top, top + 23, left, left + 23)
    panel = first_row(picture, 0)
    expected = [min(max(6 * at, 0), 383) for at in (start[0], start[0] + 16, start[1], start[1] + 16)]
    lines = (panel == OUTCOME_COLOURS["FN"]).all(axis=-1)
    rows, columns = (np.flatnonzero(lines.sum(axis=axis) > 60) for axis in (1, 0))
    found = [int(edge) for edge in (rows[0], rows[-1], columns[0], columns[-1])]
    np.testing.assert_allclose(found, expected, atol=1)


def test_pixels_are_marked_but_not_hidden() -> None:
    shape = (64, 64)
    image, probability, truth = window(shape)
    truth[20, 30] = 1
    picture = attribution_panel(image, probability, truth, [one_field(shape, "FP", (20, 30), {})], 4.0)
    for index, grey in enumerate((image, probability, 255 * truth)):
        panel = first_row(picture, index)
        assert panel[123, 183].tolist() == [grey[20, 30]] * 3  # the middle of the pixel
        marked = (panel == OUTCOME_COLOURS["FP"]).all(axis=-1)
        for ahead in (marked[123, 183:203], marked[123, 163:183], marked[123:143, 183], marked[103:123, 183]):
            assert ahead.any()


def test_ignored_truth_is_neither_black_nor_white() -> None:
    shape = (64, 64)
    image, probability, truth = window(shape)
    truth[10:20, 10:20] = 255
    panel = first_row(attribution_panel(image, probability, truth, [], 4.0), 2)
    assert np.unique(panel[60:120, 60:120]).tolist() == [90]
    assert set(np.unique(panel[:60])) == {0, 255}


@pytest.mark.parametrize(("pixel_size_nm", "zoom_px", "nm"), [(4.0, None, 50), (2.18, None, 20), (3.0, 16, 10)])
def test_scale_bar_has_its_stated_length(pixel_size_nm: float, zoom_px: int | None, nm: float) -> None:
    shape = (64, 64)
    picture = attribution_panel(*window(shape), [one_field(shape, "TN", (5, 60), {})], pixel_size_nm, zoom_px)
    framed = inside_of_frame(picture, "TN")
    black = (framed[340:] == 0).all(axis=-1)
    row = black[black.sum(axis=1).argmax()]
    shown_nm = pixel_size_nm * (zoom_px or 64) / 384
    assert row.sum() == pytest.approx(nm / shown_nm, abs=1.5)
    assert row.sum() <= 0.3 * 384


@given(st.floats(1e-6, 1e9))
def test_nice_lengths_are_round_and_near_limit(limit: float) -> None:
    length = nice_length(limit)
    assert limit / 2.5 * (1 - 1e-9) <= length <= limit * (1 + 1e-9)
    assert f"{length:.6e}"[:8] in ("1.000000", "2.000000", "5.000000")


def test_reduced_windows_keep_their_strongest_values() -> None:
    shape = (1024, 900)
    field = one_field(shape, "TP", (500, 500), {(101, 301): 1.0, (100, 300): -0.5, (701, 801): -1.0})
    framed = inside_of_frame(attribution_panel(*window(shape), [field], 4.0), "TP")
    assert framed.shape == (512, 450, 3)
    assert bounds(framed, STRONGEST) == (50, 50, 150, 150)
    assert bounds(framed, STRONGEST_AGAINST) == (350, 350, 400, 400)


@pytest.mark.parametrize(
    ("shape", "zoom_px"),
    [
        ((64, 64), None),
        ((64, 64), 5000),
        ((100, 31), 24),
        ((31, 100), None),
        ((513, 511), None),
        ((513, 511), 24),
        ((1, 7), None),
        ((1, 7), 1),
    ],
)
def test_any_shape_and_field_count_makes_panels(shape: tuple[int, int], zoom_px: int | None) -> None:
    random = np.random.default_rng(1)
    fields = []
    for outcome in ("TP", "FP", "FN", "TN", "TP"):
        pixel = (int(random.integers(shape[0])), int(random.integers(shape[1])))
        fields.append(one_field(shape, outcome, pixel, {pixel: 1.0}))
    heights = []
    for count in (0, 1, 4, 5):
        picture = attribution_panel(*window(shape), fields[:count], 4.0, zoom_px)
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        heights.append(picture.shape[0])
    assert heights[0] < heights[1] == heights[2] < heights[3]


def test_captions_are_wrapped_at_words() -> None:
    font = font_of(15)
    text = "S(0.01) = 46,000 nm², F(x) = 3.21, completeness error 0.01"
    lines = wrapped(text, 150, font)
    assert " ".join(lines) == text
    assert len(lines) > 2
    assert all(font.getlength(line) <= 150 for line in lines)


def test_font_has_the_captions_signs() -> None:
    font = font_of(20)
    missing = bytes(font.getmask("\uffff"))
    assert all(bytes(font.getmask(sign)) != missing for sign in "²−µ·≥×")


def test_mismatched_inputs_are_refused() -> None:
    shape = (8, 9)
    image, probability, truth = window(shape)
    with pytest.raises(ValueError, match="one shape"):
        attribution_panel(image, probability[1:], truth, [], 4.0)
    with pytest.raises(ValueError, match="one shape"):
        attribution_panel(image, probability, truth, [one_field((9, 8), "TP", (0, 0), {})], 4.0)
    with pytest.raises(ValueError, match="outcome 'XX' is none of TP, FP, FN, TN"):
        attribution_panel(image, probability, truth, [one_field(shape, "XX", (0, 0), {})], 4.0)
    with pytest.raises(ValueError, match="lies outside a window"):
        attribution_panel(image, probability, truth, [one_field(shape, "TP", (8, 0), {})], 4.0)
