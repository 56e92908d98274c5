"""Augmentation: geometry against torch.flip and torch.rot90, alignment of image and mask, and what it is keyed by."""

import itertools
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage

from data_modules.augment.images import Augment
from data_modules.augment.transforms import Draw, blur
from data_modules.batch import Batch
from tests.support.patch_batches import batch_of

NOTHING = Augment(flip=False, rotation_deg=0, zoom=(1, 1), contrast=0, brightness=0)


def noise(count: int = 3, height: int = 64, width: int = 64, seed: int = 0) -> Batch:
    random = np.random.default_rng(seed)
    image = torch.from_numpy(random.integers(0, 256, (count, 1, height, width), dtype=np.uint8))
    mask = torch.from_numpy(random.integers(0, 2, (count, height, width), dtype=np.uint8))
    mask[:, 5:9, 7:20] = 255
    return batch_of(image, mask)


def forced(batch: Batch, *draws: Draw) -> Batch:
    """What the warp does to given parameters."""
    return Augment().apply(batch, draws)


def smooth(count: int = 2, side: int = 96) -> Batch:
    """Blobs, and their mask written into the image: black and white, so that one warp can be held against the other."""
    random = np.random.default_rng(3)
    blobs = np.stack([ndimage.gaussian_filter(random.standard_normal((side, side)), 6) > 0 for _ in range(count)])
    mask = torch.from_numpy(blobs.astype(np.uint8))
    return batch_of((mask * 255)[:, None], mask)


def test_the_identity_changes_nothing() -> None:
    batch = noise()
    for augment in (NOTHING, Augment(probability=0.0)):
        out = augment(batch, 0, 0)
        torch.testing.assert_close(out["image"], batch["image"].float(), atol=0.05, rtol=0)
        assert torch.equal(out["mask"], batch["mask"])


@pytest.mark.parametrize("shape", [(64, 64), (63, 63), (1024, 1024), (48, 80)])
@pytest.mark.parametrize("flip", list(itertools.product((1, -1), repeat=2)))
def test_flips_are_exact(shape: tuple[int, int], flip: tuple[int, int]) -> None:
    batch = noise(1, *shape)
    out = forced(batch, Draw(flip=flip))
    axes = [axis for axis, sign in zip((-2, -1), flip, strict=True) if sign < 0]
    torch.testing.assert_close(out["image"], batch["image"].float().flip(axes), atol=0.1, rtol=0)
    assert torch.equal(out["mask"], batch["mask"].flip(axes))


@pytest.mark.parametrize("side", [64, 63, 1024])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_exact(side: int, quarters: int) -> None:
    batch = noise(1, side, side)
    out = forced(batch, Draw(angle=quarters * math.pi / 2))
    # With y pointing down a positive angle turns clockwise; random angles have no preferred sense.
    torch.testing.assert_close(out["image"], torch.rot90(batch["image"].float(), -quarters, (-2, -1)), atol=0.1, rtol=0)
    assert torch.equal(out["mask"], torch.rot90(batch["mask"], -quarters, (-2, -1)))


def test_zoom_and_shift_go_where_they_should() -> None:
    """One bright pixel at a known place: magnified twice about the centre, or moved by a quarter of the side."""
    image = torch.zeros(2, 1, 65, 65, dtype=torch.uint8)
    image[:, 0, 40, 20] = 255
    batch = batch_of(image, (image[:, 0] > 0).to(torch.uint8))
    out = forced(batch, Draw(scale=(2.0, 2.0)), Draw(shift=(8, 4)))
    assert int(out["image"][0, 0].argmax()) == (32 + 2 * (40 - 32)) * 65 + 32 + 2 * (20 - 32)
    # The crop is taken further down and to the right, so its content moves up and to the left.
    assert int(out["image"][1, 0].argmax()) == (40 - 8) * 65 + 20 - 4
    assert out["mask"][0, 48, 8] == out["mask"][1, 32, 16] == 1


@pytest.mark.parametrize("seed", range(6))
def test_image_and_mask_stay_aligned(seed: int) -> None:
    batch = smooth()
    augment = Augment(zoom=(0.7, 1.5), crop=(0.6, 1.0), translation=0.2, contrast=0, brightness=0)
    out = augment(batch, seed, 1)
    mask, grey = out["mask"], out["image"][:, 0]
    # Near an outline bilinear and nearest neighbour may differ by a pixel.
    edges = torch.nn.functional.max_pool2d(((grey > 5) & (grey < 250)).float()[:, None], 3, 1, 1)[:, 0] > 0
    clear = (mask != 255) & ~edges
    assert clear.float().mean() > 0.2
    assert torch.equal((grey > 127)[clear], (mask == 1)[clear])


def test_pixels_from_outside_are_ignored_and_mirrored() -> None:
    batch = batch_of(torch.full((1, 1, 100, 100), 90, dtype=torch.uint8), torch.zeros(1, 100, 100, dtype=torch.uint8))
    out = forced(batch, Draw(scale=(0.5, 0.5)))
    outside = torch.ones(100, 100, dtype=torch.bool)
    outside[25:75, 25:75] = False
    assert (out["mask"][0][outside] == 255).float().mean() > 0.98
    assert (out["mask"][0][~outside] == 0).all()
    torch.testing.assert_close(out["image"], batch["image"].float(), atol=0.05, rtol=0)  # no black frame


def test_ignored_pixels_stay_ignored() -> None:
    batch = noise(8)
    out = Augment(zoom=(0.5, 2.0), translation=0.3)(batch, 0, 0)
    assert set(out["mask"].flatten().tolist()) == {0, 1, 255}
    inside = forced(noise(1), Draw(angle=math.pi))["mask"]
    assert (inside == 255).sum() == 4 * 13


def test_shapes_types_and_range() -> None:
    batch = noise(4, 48, 80)
    out = Augment(contrast=1.0, brightness=1.0)(batch, 0, 0)
    assert (out["image"].dtype, out["image"].shape) == (torch.float32, (4, 1, 48, 80))
    assert (out["mask"].dtype, out["mask"].shape) == (torch.uint8, (4, 48, 80))
    assert out["image"].min() >= 0
    assert out["image"].max() <= 255
    assert batch["image"].dtype == torch.uint8, "the batch given is left alone"
    assert out.keys() == batch.keys()
    assert torch.equal(out["index"], batch["index"])


def test_augmentation_does_not_depend_on_the_batch() -> None:
    batch = noise(6)
    augment = Augment(noise=0.1)
    whole = augment(batch, 7, 3)
    for chosen in ([2], [5, 0], [3, 1, 4, 2]):
        part = batch_of(batch["image"][chosen], batch["mask"][chosen], chosen)
        out = augment(part, 7, 3)
        assert torch.equal(out["image"], whole["image"][chosen])
        assert torch.equal(out["mask"], whole["mask"][chosen])


def test_patches_epochs_and_seeds_differ() -> None:
    one = noise(1)
    same = batch_of(one["image"].repeat(2, 1, 1, 1), one["mask"].repeat(2, 1, 1), [0, 1])
    out = Augment()(same, 7, 3)["image"]
    assert not torch.equal(out[0], out[1])
    assert not torch.equal(out, Augment()(same, 7, 4)["image"])
    assert not torch.equal(out, Augment()(same, 8, 3)["image"])
    assert torch.equal(out, Augment()(same, 7, 3)["image"])


def test_the_global_random_state_neither_matters_nor_moves() -> None:
    torch.manual_seed(0)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    first = Augment()(noise(), 0, 0)["image"]
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # type: ignore[index]  # noqa: NPY002
    torch.manual_seed(1)
    assert torch.equal(Augment()(noise(), 0, 0)["image"], first)


def test_contrast_turns_about_the_mean_of_each_patch() -> None:
    """A dark and a bright patch in one batch: each keeps its own mean, and is as alone."""
    random = np.random.default_rng(0)
    image = np.stack([random.integers(20, 60, (1, 40, 40)), random.integers(180, 220, (1, 40, 40))]).astype(np.uint8)
    batch = batch_of(torch.from_numpy(image), torch.zeros(2, 40, 40, dtype=torch.uint8))
    out = forced(batch, Draw(contrast=0.5), Draw(contrast=1.1))["image"].numpy()
    grey = image.astype(np.float64)
    mean = grey.mean((1, 2, 3), keepdims=True)
    expected = mean + (grey - mean) * np.array([0.5, 1.1])[:, None, None, None]
    np.testing.assert_allclose(out, expected, atol=0.1)


def test_brightness_is_a_share_of_the_grey_range() -> None:
    batch = batch_of(torch.full((2, 1, 8, 8), 100, dtype=torch.uint8), torch.zeros(2, 8, 8, dtype=torch.uint8))
    out = forced(batch, Draw(brightness=0.1), Draw(brightness=-0.8))["image"]
    torch.testing.assert_close(out[0], torch.full((1, 8, 8), 125.5))
    assert not out[1].any()


def test_noise_has_the_drawn_strength_per_patch() -> None:
    batch = batch_of(torch.full((3, 1, 128, 128), 128, dtype=torch.uint8), torch.zeros(3, 128, 128, dtype=torch.uint8))
    draws = [Draw(noise=25.5, noise_seed=1), Draw(noise=5.1, noise_seed=2), Draw(noise=25.5, noise_seed=3)]
    out = Augment(noise=0.1).apply(batch, draws)
    strength = out["image"].flatten(1).std(1) / 255
    torch.testing.assert_close(strength, torch.tensor([0.1, 0.02, 0.1]), rtol=0.03, atol=0)
    assert not torch.equal(out["image"][0], out["image"][2])
    assert torch.equal(out["mask"], batch["mask"])


def test_draws_fill_their_ranges_and_nothing_more() -> None:
    augment = Augment(rotation_deg=30, zoom=(0.5, 2.0), crop=(0.8, 0.8), translation=0.1, contrast=0.3, brightness=0.2)
    draws = [augment.draw(np.random.default_rng([1, number]), (1, 1)) for number in range(3000)]
    shifts = np.array([draw.shift for draw in draws])
    values = {
        "angle": ([draw.angle for draw in draws], -math.pi / 6, math.pi / 6),
        "zoom": ([math.log(draw.scale[0] * 0.8) for draw in draws], -math.log(2), math.log(2)),
        "shift along Y": (shifts[:, 0].tolist(), -0.2, 0.2),
        "shift along X": (shifts[:, 1].tolist(), -0.2, 0.2),
        "contrast": ([draw.contrast for draw in draws], 0.7, 1.3),
        "brightness": ([draw.brightness for draw in draws], -0.2, 0.2),
    }
    for name, (drawn, low, high) in values.items():
        assert low - 1e-9 <= min(drawn) < low + 0.06 * (high - low), name
        assert high - 0.06 * (high - low) < max(drawn) <= high + 1e-9, name
        assert np.mean(drawn) == pytest.approx((low + high) / 2, abs=0.03 * (high - low)), name
    assert np.corrcoef(shifts, rowvar=False)[0, 1] == pytest.approx(0, abs=0.08)
    for flip in itertools.product((1, -1), repeat=2):
        assert np.mean([draw.flip == flip for draw in draws]) == pytest.approx(0.25, abs=0.04)


class BlurredAugment(Augment):
    """Augmentation of docs/data.md: one more change of the grey values."""

    changes = (*Augment.changes, partial(blur, widest=2.0))

    def draw(self, random: np.random.Generator, sides: tuple[int, ...]) -> Draw:
        return replace(super().draw(random, sides), blur=2.0)


def test_a_subclass_adds_a_change() -> None:
    batch = noise()
    plain, blurred = (kind(contrast=0, brightness=0)(batch, 1, 2) for kind in (Augment, BlurredAugment))
    expected = ndimage.gaussian_filter(plain["image"].numpy(), (0, 0, 2, 2), mode="mirror", radius=6)
    np.testing.assert_allclose(blurred["image"].numpy(), expected, atol=0.1)
    assert torch.equal(blurred["mask"], plain["mask"])


def test_a_share_of_patches_is_left_alone() -> None:
    augment = Augment(probability=0.3)
    untouched = [augment.draw(np.random.default_rng([2, number]), (64, 64)) == Draw() for number in range(3000)]
    assert np.mean(untouched) == pytest.approx(0.7, abs=0.03)
