"""What augmentation does to volumes: geometry against numpy and scipy, grey values, missing sections."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from data_modules.augment.transforms import Draw
from data_modules.augment.volumes import VolumeAugment
from tests.support.patch_batches import DEPTH, EVERYTHING, batch_of, drawn, forced, noise


def test_nothing_changes_nothing() -> None:
    batch = noise()
    out = VolumeAugment(rotation_probability=0, flip_probability=0, grey_probability=0)(batch, 0, 0)
    torch.testing.assert_close(out["image"], batch["image"].float(), atol=0.05, rtol=0)
    assert torch.equal(out["mask"], batch["mask"])


@pytest.mark.parametrize("sides", [(32, 32), (33, 20)])
@pytest.mark.parametrize("flip", list(itertools.product((1, -1), repeat=3)))
def test_flips_are_exact(sides: tuple[int, int], flip: tuple[int, int, int]) -> None:
    batch = noise(1, DEPTH, *sides)
    out = forced(batch, drawn(sections=np.arange(DEPTH)[:: flip[0]].copy(), flip=flip[1:]))
    axes = [axis for axis, sign in zip((-3, -2, -1), flip, strict=True) if sign < 0]
    torch.testing.assert_close(out["image"], batch["image"].float().flip(axes), atol=0.1, rtol=0)
    assert torch.equal(out["mask"], batch["mask"].flip(axes))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_exact(quarters: int) -> None:
    batch = noise(1)
    out = forced(batch, drawn(angle=quarters * math.pi / 2))
    torch.testing.assert_close(out["image"], torch.rot90(batch["image"].float(), -quarters, (-2, -1)), atol=0.1, rtol=0)
    assert torch.equal(out["mask"], torch.rot90(batch["mask"], -quarters, (-2, -1)))


def test_turned_oblong_patches_ignore_what_was_outside() -> None:
    batch = noise(1, 2, 20, 40)
    batch["mask"].zero_()
    out = forced(batch, drawn(2, angle=math.pi / 2))["mask"]
    assert (out[:, :, :, 10:30] == 0).all()
    assert (out[:, :, :, :10] == 255).all()
    assert (out[:, :, :, 30:] == 255).all()


def by_scipy(image: NDArray[np.uint8], draw: Draw) -> NDArray[np.float64]:
    """Each section pulled back at once: out(p) = in(c + s + F Rᵀ (p − c)), coordinates (y, x)."""
    centre = (np.array(image.shape[1:]) - 1) / 2
    cos, sin = math.cos(draw.angle), math.sin(draw.angle)
    # Rows of (y, x): with Y pointing down, a positive angle turns the content clockwise.
    pull = np.diag(draw.flip) @ np.array([[cos, -sin], [sin, cos]])
    result = np.empty(image.shape)
    assert draw.sections is not None
    for place, (section, shift) in enumerate(zip(draw.sections, np.asarray(draw.shift), strict=True)):
        result[place] = ndimage.affine_transform(
            image[section].astype(np.float64), pull, centre + shift - pull @ centre, order=1, mode="mirror"
        )
    return result


@given(
    angle=st.floats(-math.pi, math.pi),
    flip=st.tuples(*[st.sampled_from([1, -1])] * 2),
    backwards=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_all_geometry_is_one_bilinear_interpolation(
    angle: float, flip: tuple[int, int], backwards: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    batch = noise(1, 3, 25, 30)
    order = np.arange(3)[:: -1 if backwards else 1].copy()
    draw = drawn(3, sections=order, flip=flip, angle=angle, shift=random.integers(-5, 6, (3, 2)))
    out = forced(batch, draw)["image"][0, 0].numpy()
    np.testing.assert_allclose(out, by_scipy(batch["image"][0, 0].numpy(), draw), atol=0.3)


@pytest.mark.parametrize("shift", [(3, 0), (0, -5), (4, 7), (-16, 16)])
def test_shifted_sections_move_by_whole_pixels(shift: tuple[int, int]) -> None:
    batch = noise(1)
    shifts = np.zeros((DEPTH, 2), np.int64)
    shifts[2:4] = shift
    out = forced(batch, drawn(shift=shifts))
    y, x = shift
    window = (slice(16 + y, 48 + y), slice(16 + x, 48 + x))
    image, mask = batch["image"][0, 0].numpy(), batch["mask"][0].numpy()
    for section in range(DEPTH):
        expected: tuple[NDArray[np.uint8], NDArray[np.uint8]] = (image[section], mask[section])
        if section in (2, 3):
            # Mirrored about the outermost pixels in the image, ignored in the mask.
            mirrored = np.pad(image[section], 16, mode="reflect")
            expected = (mirrored[window], np.pad(mask[section], 16, constant_values=255)[window])
        np.testing.assert_allclose(out["image"][0, 0, section], expected[0], atol=0.1)
        np.testing.assert_array_equal(out["mask"][0, section], expected[1])


def test_missing_sections_are_so_in_the_image_alone() -> None:
    batch = noise(3)
    missing = np.array([[0, 1, 0, 0, 0, 1], [0] * 6, [1] * 6], bool)
    draws = [drawn(missing=row) for row in missing]
    grey = forced(batch, *draws, missing_probability=0.1, missing_grey=7.0)
    mean = forced(batch, *draws, missing_probability=0.1, missing_grey=None)
    for place, row in enumerate(missing):
        original = batch["image"][place, 0].float()
        assert (grey["image"][place, 0][row] == 7).all()
        if row.any():
            torch.testing.assert_close(mean["image"][place, 0][row].mean(), original.mean(), atol=0.1, rtol=0)
            assert mean["image"][place, 0][row].std() < 1e-3
        for out in (grey, mean):
            torch.testing.assert_close(out["image"][place, 0][~row], original[~row], atol=0.1, rtol=0)
    assert torch.equal(grey["mask"], batch["mask"])
    assert torch.equal(mean["mask"], batch["mask"])


def test_grey_values_scale_about_patch_then_section() -> None:
    random = np.random.default_rng(0)
    image = random.integers(100, 140, (2, 1, 3, 24, 24)).astype(np.uint8)
    image[:, :, 1] += 20
    batch = batch_of(torch.from_numpy(image), torch.zeros(2, 3, 24, 24, dtype=torch.uint8))
    factors, shifts = np.array([0.9, 1.1, 1.0]), np.array([0.0, 0.02, -0.04])
    draws = [
        drawn(3, contrast=0.5, brightness=0.1, section_contrast=factors, section_brightness=shifts),
        drawn(3, contrast=1.2, brightness=-0.05),
    ]
    out = forced(batch, *draws, section_contrast=0.2)["image"].numpy()[:, 0]
    grey = image[:, 0].astype(np.float64)
    mean = grey.mean(axis=(1, 2, 3), keepdims=True)
    expected = mean + (grey - mean) * np.array([0.5, 1.2])[:, None, None, None]
    expected += 255 * np.array([0.1, -0.05])[:, None, None, None]
    own = expected[0].mean(axis=(1, 2), keepdims=True)
    expected[0] = own + (expected[0] - own) * factors[:, None, None] + 255 * shifts[:, None, None]
    np.testing.assert_allclose(out, expected, atol=0.1)


def test_several_channels_move_together() -> None:
    batch = noise(2)
    batch["image"] = batch["image"].repeat(1, 3, 1, 1, 1)
    out = VolumeAugment(**EVERYTHING)(batch, 0, 0)["image"]
    assert out.shape == (2, 3, DEPTH, 32, 32)
    assert torch.equal(out[:, 0], out[:, 2])


@pytest.mark.parametrize("seed", range(3))
def test_image_and_mask_stay_aligned(seed: int) -> None:
    random = np.random.default_rng(seed)
    blobs = ndimage.gaussian_filter(random.standard_normal((2, DEPTH, 96, 96)), (0, 0, 6, 6)) > 0
    mask = torch.from_numpy(blobs.astype(np.uint8))
    augment = VolumeAugment(rotation_probability=1, grey_probability=0, misaligned_probability=1, shift_px=12)
    out = augment(batch_of((mask * 255)[:, None], mask), seed, 1)
    found, grey = out["mask"].flatten(0, 1), out["image"][:, 0].flatten(0, 1)
    # Near an outline bilinear and nearest neighbour may differ by a pixel.
    edges = torch.nn.functional.max_pool2d(((grey > 5) & (grey < 250)).float()[:, None], 3, 1, 1)[:, 0] > 0
    clear = (found != 255) & ~edges
    assert clear.float().mean() > 0.2
    assert torch.equal((grey > 127)[clear], (found == 1)[clear])
