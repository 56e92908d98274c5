"""Augmentation of volumes: what is drawn how often, what it is keyed by, and what is refused."""

import itertools
import math
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from data_modules.augment import transforms
from data_modules.augment.transforms import Draw
from data_modules.augment.volumes import VolumeAugment
from data_modules.errors import UserError
from tests.support.patch_batches import DEPTH, EVERYTHING, batch_of, noise


def draws_of(number: int = 3000, depth: int = DEPTH, **options: Any) -> list[Draw]:
    augment = VolumeAugment(**options)
    return [augment.draw(np.random.default_rng([1, place]), (depth, 32, 32)) for place in range(number)]


def test_misalignments_are_equally_frequent_and_begin_anywhere() -> None:
    found = [np.asarray(draw.shift) for draw in draws_of(misaligned_probability=0.6, shift_px=3)]
    moved = [shifts for shifts in found if shifts.any()]
    # Every 49th shift drawn is none.
    assert len(moved) / len(found) == pytest.approx(0.6 * 48 / 49, abs=0.03)
    places = [np.flatnonzero(shifts.any(axis=1)) for shifts in moved]
    for shifts, place in zip(moved, places, strict=True):
        assert 0 not in place
        assert (shifts[place] == shifts[place[0]]).all()
        assert len(place) == 1 or place.tolist() == list(range(place[0], DEPTH))
    # A slip of the last section cannot be told from a translation, so the kinds are counted without it.
    before = [place for place in places if place[0] < DEPTH - 1]
    assert np.mean([len(place) == 1 for place in before]) == pytest.approx(0.5, abs=0.05)
    begin = np.bincount([place[0] for place in places], minlength=DEPTH) / len(places)
    np.testing.assert_allclose(begin, [0, *[1 / (DEPTH - 1)] * (DEPTH - 1)], atol=0.04)
    values = np.array([shifts.max(axis=0) + shifts.min(axis=0) for shifts in moved])
    assert values.min() == -3
    assert values.max() == 3
    assert set(np.unique(values)) == set(range(-3, 4))


def test_probabilities_and_ranges_are_those_given() -> None:
    """CleftNet's probabilities are the defaults."""
    draws = draws_of(contrast=0.3, brightness=0.2, section_contrast=0.1, section_brightness=0.05)
    turned = np.array([draw.angle for draw in draws if draw.angle])
    changed = [draw for draw in draws if draw.contrast != 1]
    assert len(turned) / len(draws) == pytest.approx(0.5, abs=0.03)
    assert len(changed) / len(draws) == pytest.approx(0.2, abs=0.03)
    flips = np.array([(*draw.flip, 1 - 2 * int(np.asarray(draw.sections)[0] > 0)) for draw in draws])
    for signs in itertools.product((1, -1), repeat=3):
        assert (flips == signs).all(axis=1).mean() == pytest.approx(1 / 8, abs=0.02)
    sections = np.concatenate([np.asarray(draw.section_contrast) for draw in changed])
    values = {
        "angle": (turned, -math.pi, math.pi),
        "contrast": (np.array([draw.contrast for draw in changed]), 0.7, 1.3),
        "brightness": (np.array([draw.brightness for draw in changed]), -0.2, 0.2),
        "section contrast": (sections, 0.9, 1.1),
        "section brightness": (np.concatenate([np.asarray(draw.section_brightness) for draw in changed]), -0.05, 0.05),
    }
    for name, (found, low, high) in values.items():
        assert low <= found.min() < low + 0.06 * (high - low), name
        assert high - 0.06 * (high - low) < found.max() <= high, name
        assert found.mean() == pytest.approx((low + high) / 2, abs=0.05 * (high - low)), name
    unchanged = [draw for draw in draws if draw.contrast == 1]
    assert all(np.all(np.asarray(draw.section_contrast) == 1) and draw.brightness == 0 for draw in unchanged)
    assert not any(np.any(draw.missing) or np.any(draw.shift) for draw in draws), "off unless asked for"


def test_right_angles_alone() -> None:
    quarters = [draw.angle / (math.pi / 2) for draw in draws_of(right_angles=True, rotation_probability=0.6)]
    for number, share in ((0, 0.4), (1, 0.2), (2, 0.2), (3, 0.2)):
        assert np.mean(np.array(quarters) == number) == pytest.approx(share, abs=0.03)


def test_sections_are_missing_at_the_rate_asked_for() -> None:
    missing = np.array([draw.missing for draw in draws_of(missing_probability=0.15)])
    np.testing.assert_allclose(missing.mean(axis=0), 0.15, atol=0.03)
    assert np.corrcoef(missing.T)[np.triu_indices(DEPTH, 1)] == pytest.approx(0, abs=0.08)


def test_an_option_changes_nothing_but_its_own_effect() -> None:
    options: list[dict[str, Any]] = [
        {"flip_probability": 0.0}, {"rotation_probability": 0.0}, {"right_angles": True}, {"grey_probability": 0.0},
        {"missing_probability": 0.5}, {"misaligned_probability": 0.9, "shift_px": 5},
    ]  # fmt: skip
    effects = (
        {"flip", "sections"}, {"angle"}, {"angle"},
        {"contrast", "brightness", "section_contrast", "section_brightness"}, {"missing"}, {"shift"},
    )  # fmt: skip
    usual = draws_of(50, section_contrast=0.1, misaligned_probability=0.3)
    for option, effect in zip(options, effects, strict=True):
        changed = draws_of(50, **{"section_contrast": 0.1, "misaligned_probability": 0.3, **option})
        for before, after in zip(usual, changed, strict=True):
            for name in vars(before).keys() - effect:
                np.testing.assert_array_equal(getattr(before, name), getattr(after, name), err_msg=f"{option} {name}")


def test_augmentation_does_not_depend_on_the_batch() -> None:
    batch = noise(6)
    augment = VolumeAugment(**EVERYTHING)
    whole = augment(batch, 7, 3)
    for chosen in ([2], [5, 0], [3, 1, 4, 2]):
        part = batch_of(batch["image"][chosen], batch["mask"][chosen], chosen)
        out = augment(part, 7, 3)
        assert torch.equal(out["image"], whole["image"][chosen])
        assert torch.equal(out["mask"], whole["mask"][chosen])


def test_patches_epochs_and_seeds_differ() -> None:
    one = noise(1)
    same = batch_of(one["image"].repeat(2, 1, 1, 1, 1), one["mask"].repeat(2, 1, 1, 1), [0, 1])
    augment = VolumeAugment(**EVERYTHING)
    out = augment(same, 7, 3)["image"]
    assert not torch.equal(out[0], out[1])
    assert not torch.equal(out, augment(same, 7, 4)["image"])
    assert not torch.equal(out, augment(same, 8, 3)["image"])
    before = torch.get_rng_state()
    assert torch.equal(out, augment(same, 7, 3)["image"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(3, 6, 32, 32), (2, 1, 20, 24), (1, 2, 16, 16)])
def test_shapes_types_and_values(shape: tuple[int, int, int, int]) -> None:
    batch = noise(*shape)
    out = VolumeAugment(**EVERYTHING | {"contrast": 1.0, "brightness": 1.0})(batch, 0, 0)
    assert (out["image"].dtype, out["image"].shape) == (torch.float32, batch["image"].shape)
    assert (out["mask"].dtype, out["mask"].shape) == (torch.uint8, batch["mask"].shape)
    assert out["image"].is_contiguous()
    assert out["image"].min() >= 0
    assert out["image"].max() <= 255
    assert set(out["mask"].flatten().tolist()) <= {0, 1, 2, 3, 255}
    assert batch["image"].dtype == torch.uint8, "the batch given is left alone"
    assert out.keys() == batch.keys()


def test_each_section_is_warped_once() -> None:
    with patch.object(transforms, "warp_image", side_effect=transforms.warp_image) as warp:
        VolumeAugment(**EVERYTHING)(noise(2), 0, 0)
    assert warp.call_count == 1
    assert warp.call_args.args[0].shape == (2, 1, DEPTH, 32, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            ({name: wrong}, f"{name} must lie in 0–1, got {wrong}")
            for name in (
                "rotation_probability", "flip_probability", "grey_probability", "missing_probability",
                "misaligned_probability", "contrast", "brightness", "section_contrast", "section_brightness",
            )
            for wrong in (-0.1, 1.5, math.nan)
        ),
        ({"missing_grey": 256.0}, "missing_grey must lie in 0–255 or be null, got 256"),
        ({"missing_grey": -1.0}, "missing_grey must lie in 0–255"),
        ({"shift_px": 0}, "shift_px must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"data\.augment\.{message}"):
        VolumeAugment(**arguments)
