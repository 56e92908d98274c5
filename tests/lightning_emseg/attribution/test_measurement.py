"""A study on a network whose fields are known, in one part and in several."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path as FilePath

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from data_modules.geometry import Shape
from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.attribution.areas import compare_fields, summarise_accuracy
from lightning_emseg.attribution.integrated_gradients import IntegratedGradients
from lightning_emseg.attribution.measurement import (
    MeasuredPixel,
    StudySetting,
    WorkUnit,
    exact_units,
    measure_accuracy,
    measure_units,
    shared_units,
    take_share,
)
from lightning_emseg.attribution.method import BoundMethod, Field
from lightning_emseg.attribution.network import Output, detached_copy, foreground_probability
from lightning_emseg.attribution.points import ChosenPixels
from lightning_emseg.attribution.windows import Place, hash_name, location_noise
from lightning_emseg.networks.vanilla_unet import VanillaUNet
from tests.support import tiny
from tests.support.attribution_checks import settled

CPU = torch.device("cpu")
THRESHOLDS = (0.01, 0.05, 0.1)
SIDE = 48
PIXELS = ((5, 6), (40, 41), (20, 3), (0, 47), (24, 24), (47, 0), (23, 30))
OUTCOMES = ("TP", "FP", "FN", "TN", "TP", "TN", "TN")


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> list[MosaicView]:
    store = tmp_path_factory.mktemp("study") / "s.zarr"
    for index, shape in enumerate([(70, 80), (40, 37)]):
        tiny.write_sample(store, f"val/m{index}", *tiny.content(shape, index), pixel_size_nm=5.0)
    return [MosaicView.of(sample, "membrane") for sample in MosaicStore(store).samples("val")]


def places() -> list[Place]:
    return [Place(0, (10, 20), (SIDE, SIDE)), Place(0, (22, 32), (SIDE, SIDE)), Place(1, (0, 0), (SIDE, SIDE))]


def setting_of(views: Sequence[MosaicView]) -> StudySetting:
    return StudySetting(views, "noise", THRESHOLDS, seed=3)


def bound_unet(exact: bool = False, depth: int = 2) -> BoundMethod:
    torch.manual_seed(0)
    network = detached_copy(settled(VanillaUNet(base_channels=2, depth=depth), SIDE), 0.0, 1.0)
    return IntegratedGradients(steps=3, reach=6, exact=exact).bind(network, 2**depth)


def all_units(method: BoundMethod) -> list[WorkUnit]:
    return [
        unit
        for place in places()
        for unit in (
            *exact_units(ChosenPixels(place, PIXELS, OUTCOMES), [0, 4]),
            *shared_units(method, ChosenPixels(place, PIXELS, OUTCOMES), {0, 1, 4}),
        )
    ]


@given(count=st.integers(0, 40), world=st.integers(1, 12))
def test_shares_are_equal_contiguous_parts(count: int, world: int) -> None:
    units = [WorkUnit(Place(0, (index, 0), (8, 8)), (), (), False, ()) for index in range(count)]
    shares = [take_share(units, rank, world) for rank in range(world)]
    assert [unit for share in shares for unit in share] == units
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_pixels_keep_their_outcome_in_one_unit() -> None:
    method = bound_unet()
    chosen = ChosenPixels(places()[0], PIXELS, OUTCOMES)
    units = shared_units(method, chosen, {1, 4})
    assert len(units) < len(PIXELS)
    named = [
        (pixel, outcome, kept)
        for unit in units
        for pixel, outcome, kept in zip(unit.pixels, unit.outcomes, unit.kept, strict=True)
    ]
    expected = [
        (pixel, outcome, at in (1, 4)) for at, (pixel, outcome) in enumerate(zip(PIXELS, OUTCOMES, strict=True))
    ]
    assert sorted(named) == sorted(expected)
    assert not any(unit.exact for unit in units)
    assert exact_units(chosen, [4]) == [WorkUnit(places()[0], ((24, 24),), ("TP",), True, (True,))]


def assert_identical(found: Sequence[MeasuredPixel], expected: Sequence[MeasuredPixel]) -> None:
    assert [each.row for each in found] == [each.row for each in expected]
    for mine, truth in zip(found, expected, strict=True):
        assert (mine.place, mine.shape, mine.exact) == (truth.place, truth.shape, truth.exact)
        assert (mine.field is None) == (truth.field is None)
        if mine.field is not None and truth.field is not None:
            np.testing.assert_array_equal(mine.field.whole(mine.shape), truth.field.whole(truth.shape))


@pytest.mark.parametrize(("exact", "depth"), [(False, 2), (True, 1)])
def test_any_number_of_ranks_gives_identical_rows(views: list[MosaicView], exact: bool, depth: int) -> None:
    setting = setting_of(views)
    units = all_units(bound_unet(exact, depth))
    whole = list(measure_units(bound_unet(exact, depth), setting, units, CPU))
    # Exact fields are not computed a second time to be compared with themselves.
    assert len(whole) == 3 * (len(PIXELS) + (0 if exact else 2))
    for world in (2, 8):
        parts = [
            found
            for rank in range(world)
            for found in measure_units(bound_unet(exact, depth), setting, take_share(units, rank, world), CPU)
        ]
        assert_identical(parts, whole)


def test_only_requested_fields_are_kept(views: list[MosaicView]) -> None:
    method = bound_unet()
    found = list(measure_units(method, setting_of(views), all_units(method), CPU))
    kept = [(each.exact, each.field.pixel) for each in found if each.field is not None and each.place == places()[0]]
    assert sorted(kept) == sorted([(True, PIXELS[0]), (True, PIXELS[4]), *((False, PIXELS[at]) for at in (0, 1, 4))])


@pytest.mark.parametrize("output", ["logit", "probability"])
def test_rows_match_a_hand_computed_linear_network(views: list[MosaicView], output: Output) -> None:
    convolution = nn.Conv2d(1, 1, 3, padding=1)
    nn.init.normal_(convolution.weight, std=1e-3)
    method = IntegratedGradients(steps=200, output=output).bind(detached_copy(convolution, 0.0, 1.0), 1)
    place = places()[2]
    pixels = ((10, 12), (39, 36), (0, 0))
    units = shared_units(method, ChosenPixels(place, pixels, ("TP", "", "TN")), {0, 1, 2})
    for pixel, found in zip(pixels, measure_units(method, setting_of(views), units, CPU), strict=True):
        row = found.row
        assert (row.mosaic, row.position, row.window) == ("val/m1", pixel, (0, 0))
        assert (row.sizes[0].place_nm, row.sizes[0].window) == (25.0, 40 * 37)
        # Mirrored past the end, at 40 × 37 px.
        image = np.pad(views[1].read_image((0, 0), (40, 37)), ((0, 8), (0, 11)), mode="symmetric").astype(np.float64)
        noise = location_noise((3, hash_name("val/m1"), 0), (0, 0), (SIDE, SIDE)).astype(np.float64)
        # Zeros beyond the window, as the convolution has it.
        weights = np.zeros((SIDE + 2, SIDE + 2))
        y, x = pixel
        weights[y : y + 3, x : x + 3] = convolution.weight.detach()[0, 0].numpy()
        pull = weights[1:-1, 1:-1] * (image - noise)
        bias = float(convolution.bias.detach()) if convolution.bias is not None else 0.0
        end, start = ((weights[1:-1, 1:-1] * values).sum() + bias for values in (image, noise))
        if output == "probability":
            end, start, slope = (*(1 / (1 + math.exp(-u)) for u in (end, start)), end - start)
            pull *= (end - start) / slope
        np.testing.assert_allclose([row.output, row.baseline_output], [end, start], rtol=1e-4, atol=1e-6)
        assert row.completeness_error < 1e-4
        inside = pull[:40, :37] / np.abs(pull[:40, :37]).max()
        assert row.sizes[0].counts == tuple(int((inside > k).sum()) for k in THRESHOLDS)


def test_positions_refer_to_the_unresized_mosaic(views: list[MosaicView]) -> None:
    convolution = detached_copy(nn.Conv2d(1, 1, 1), 0.0, 1.0)
    method = IntegratedGradients(steps=2).bind(convolution, 1)
    place = Place(0, (10, 20), (SIDE, SIDE))
    for resize, pixel, position, pixel_nm2 in (
        (None, (3, 4), (13, 24), 25.0),
        # Pixel 3 of half the size is of 6 and 7, pixel 4 of twice the size is of 2.
        ((24, 96), (3, 4), (17, 22), 25.0),
        ((24, 24), (0, 23), (11, 67), 100.0),
    ):
        setting = replace(setting_of(views), resize=resize)
        units = shared_units(method, ChosenPixels(place, (pixel,), ("TP",)), ())
        (found,) = measure_units(method, setting, units, CPU)
        assert (found.row.position, found.row.sizes[0].place_nm) == (position, pixel_nm2)
        assert found.shape == (resize or (SIDE, SIDE))


def test_accuracy_compares_pixels_with_both_fields(views: list[MosaicView]) -> None:
    method = bound_unet()
    found = list(measure_units(method, setting_of(views), all_units(method), CPU))
    accuracy = measure_accuracy(found, THRESHOLDS)
    assert accuracy is not None
    assert accuracy.pixels == 2 * len(places())
    fields = {
        (each.place, each.field.pixel, each.exact): each.field.whole(each.shape)
        for each in found
        if each.field is not None
    }
    keys = [(place, PIXELS[at]) for place in places() for at in (0, 4)]
    differences = [compare_fields(fields[*key, False], fields[*key, True], THRESHOLDS) for key in keys]
    assert accuracy == summarise_accuracy(differences, THRESHOLDS)
    assert 0 < accuracy.mean_error[0] < 1
    assert measure_accuracy([each for each in found if not each.exact], THRESHOLDS) is None


def test_exact_fields_are_not_computed_twice(views: list[MosaicView]) -> None:
    method = bound_unet(exact=True)
    found = list(measure_units(method, setting_of(views), all_units(method), CPU))
    assert measure_accuracy(found, THRESHOLDS) is None
    assert len(found) == len(places()) * len(PIXELS)
    assert not any(each.exact for each in found)


def test_no_units_give_no_rows(views: list[MosaicView]) -> None:
    assert list(measure_units(bound_unet(), setting_of(views), [], CPU)) == []
    assert shared_units(bound_unet(), ChosenPixels(places()[0], (), ()), ()) == []


def test_method_without_exact_fields_yields_none(views: list[MosaicView]) -> None:
    class Ones(BoundMethod):
        """Everything counts the same."""

        def fields(
            self,
            image: torch.Tensor,
            baseline: torch.Tensor,
            pixels: Sequence[Shape],
            together: Sequence[Sequence[int]],
        ) -> list[Field]:
            values = np.ones(image.shape[1:], np.float32)
            return [Field(pixel, (0, 0), values, 1.0, 0.0) for pixel in pixels]

        @property
        def record(self) -> dict[str, object]:
            return {}

    found = list(measure_units(Ones(), setting_of(views), all_units(Ones()), CPU))
    assert len(found) == 3 * len(PIXELS)
    assert not any(each.exact for each in found)
    # The third window is larger than its mosaic.
    assert [each.row.sizes[0].counts[0] for each in found[-2:]] == [40 * 37] * 2


def test_probabilities_are_quantised(views: list[MosaicView], tmp_path: FilePath) -> None:
    convolution = nn.Conv2d(1, 1, 3, padding=1)
    network = detached_copy(convolution, 127.5, 127.5)
    window = setting_of(views).read(places()[0])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = foreground_probability(network, window, CPU)
    logits = network(torch.from_numpy(window.image)[None])[0, 0].double().numpy()
    assert found.shape == (SIDE, SIDE)
    assert found.dtype == np.uint8
    assert np.abs(found - 255 / (1 + np.exp(-logits))).max() <= 0.501
