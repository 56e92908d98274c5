"""Resized crops against torchvision and scipy, crops of fixed seeds, and what they are keyed by."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage, stats
from torch import Tensor
from torchvision.transforms import RandomResizedCrop  # type: ignore[import-untyped]
from torchvision.transforms.functional import resized_crop  # type: ignore[import-untyped]

from data_modules.augment.images import ResizedCropAugment
from data_modules.augment.transforms import Draw, crop_box, show_box
from data_modules.augment.views import TwoViews
from data_modules.batch import Batch
from data_modules.errors import UserError
from data_modules.randomness import Purpose, stream

Sides = tuple[int, int]
Range = tuple[float, float]
BOXES: dict[tuple[Sides, Range, Range], list[tuple[int, int, int, int]]] = {
    ((224, 224), (0.2, 1.0), (3 / 4, 4 / 3)): [
        (33, 11, 167, 210), (42, 45, 146, 120), (33, 76, 148, 143), (0, 30, 130, 149)
    ],
    ((112, 224), (0.2, 1.0), (3 / 4, 4 / 3)): [
        (17, 0, 94, 117), (4, 60, 104, 85), (3, 115, 105, 101), (0, 48, 92, 105)
    ],
    ((150, 120), (0.08, 1.0), (0.5, 1.5)): [
        (0, 7, 149, 96), (33, 29, 88, 52), (27, 47, 86, 70), (0, 17, 69, 77)
    ],
    # Too wide for any such crop: ten are drawn in vain.
    ((96, 400), (0.9, 1.0), (3 / 4, 4 / 3)): [(0, 136, 96, 128)] * 4,
}  # fmt: skip
"""Drawn by both functions of before from the generators ``default_rng([7, n])``, n from 0 to 3."""
NEXT = {
    ((224, 224), (0.2, 1.0), (3 / 4, 4 / 3)): 0.22520718999059186,
    ((112, 224), (0.2, 1.0), (3 / 4, 4 / 3)): 0.8212284183827663,
    ((150, 120), (0.08, 1.0), (0.5, 1.5)): 0.8735534453962619,
    ((96, 400), (0.9, 1.0), (3 / 4, 4 / 3)): 0.21530869823559895,
}
"""What the first of the generators gives afterwards, so that as many numbers were drawn."""

VIEWS = [((180, 148), (119.5, 84.5)), ((91, 111), (80.0, 75.0)), ((162, 172), (111.5, 99.5))]
CROPS = [(3, 0, 87, 59), (1, 0, 55, 78), (15, 32, 60, 41)]


@pytest.mark.parametrize("case", BOXES)
def test_crops_of_a_seed_are_fixed(case: tuple[Sides, Range, Range]) -> None:
    sides, share, aspect = case
    generators = [np.random.default_rng([7, number]) for number in range(4)]
    assert [crop_box(random, sides, share, aspect) for random in generators] == BOXES[case]
    assert generators[0].random() == NEXT[case]


def test_views_and_augmentation_draw_fixed_crops() -> None:
    # Of `stream(3, AUGMENTATION, 1, index, 0)`, and of `default_rng(n)`, before crops were shared.
    views, augment = TwoViews(), ResizedCropAugment()
    for index, (sides, centre) in enumerate(VIEWS):
        draw = views.draw(stream(3, Purpose.AUGMENTATION, 1, index, 0), [224, 200])
        assert draw.stretch == (224 / sides[0], 224 / sides[1])
        assert draw.shift == (centre[0] - 111.5, centre[1] - 111.5)
    for number, box in enumerate(CROPS):
        draw = augment.draw(np.random.default_rng(number), (96, 80))
        assert (draw.scale, draw.shift) == show_box(box, (96, 80), (96, 80))


@given(
    sides=st.tuples(st.integers(20, 300), st.integers(20, 300)),
    seed=st.integers(0, 10**6),
    share=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(sorted),
    aspect=st.tuples(st.floats(0.4, 2.5), st.floats(0.4, 2.5)).map(sorted),
)
def test_crops_lie_within_and_keep_share_and_aspect(
    sides: tuple[int, int], seed: int, share: list[float], aspect: list[float]
) -> None:
    height, width = sides
    random = np.random.default_rng(seed)
    for _ in range(15):
        top, left, down, across = crop_box(random, sides, (share[0], share[1]), (aspect[0], aspect[1]))
        assert 0 <= top <= top + down <= height
        assert 0 <= left <= left + across <= width
        # Sides are rounded, by half a pixel each.
        assert (across - 0.5) / (down + 0.5) <= aspect[1] * (1 + 1e-9)
        assert (across + 0.5) / (down - 0.5) >= aspect[0] * (1 - 1e-9)
        drawn = (down - 0.5) * (across - 0.5) <= share[1] * height * width
        drawn &= (down + 0.5) * (across + 0.5) >= share[0] * height * width
        # Where ten do not fit, the largest central one of an allowed aspect is taken.
        largest = height - down <= 1 or width - across <= 1
        assert drawn or (largest and (top, left) == ((height - down) // 2, (width - across) // 2))


@pytest.mark.parametrize("sides", [(160, 160), (160, 300)])
def test_crops_are_distributed_as_torchvisions(sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    whole = torch.empty(1, *sides)
    theirs = np.array([RandomResizedCrop.get_params(whole, [0.08, 1.0], [0.5, 1.5]) for _ in range(5_000)])
    random = np.random.default_rng(1)
    ours = np.array([crop_box(random, sides, (0.08, 1.0), (0.5, 1.5)) for _ in range(5_000)])
    for name, one, other in (
        ("top", ours[:, 0], theirs[:, 0]),
        ("left", ours[:, 1], theirs[:, 1]),
        ("area", ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]),
        ("aspect", ours[:, 3] / ours[:, 2], theirs[:, 3] / theirs[:, 2]),
    ):
        # Eight comparisons in all: one in a thousand such tests would fail by chance.
        assert stats.ks_2samp(one, other).pvalue > 1e-4, name


def test_crops_may_fill_one_side() -> None:
    for sides, axis in (((100, 20), 0), ((20, 100), 1)):
        boxes = [crop_box(np.random.default_rng(number), sides, (0.2, 0.2), (1.0, 1.0)) for number in range(20)]
        assert {box[2:] for box in boxes} == {(20, 20)}
        assert len({box[axis] for box in boxes}) > 10, "only crops that do not fit are central"


PLAIN: dict[str, Any] = {"crop": (1.0, 1.0), "aspect": (1.0, 1.0), "flip": False, "probability": 0.0}
ALWAYS: dict[str, Any] = {**PLAIN, "rotation_deg": 0.0, "contrast": 0.0, "brightness": 0.0, "probability": 1.0}


def batch_of(image: Tensor, mask: Tensor | None = None, indices: list[int] | None = None) -> Batch:
    count = len(image)
    return Batch(
        image=image,
        mask=torch.zeros(count, *image.shape[-2:], dtype=torch.uint8) if mask is None else mask,
        mosaic=torch.zeros(count, dtype=torch.int64),
        origin=torch.zeros(count, 2, dtype=torch.int64),
        pixel_size_nm=torch.ones(count, 2),
        index=torch.tensor(list(range(count)) if indices is None else indices),
    )


def classes(count: int = 2, side: int = 96) -> Batch:
    """Smooth regions of four classes and of ignored pixels, whose image tells the class by its grey value."""
    random = np.random.default_rng(3)
    fields = np.stack([ndimage.gaussian_filter(random.standard_normal((side, side)), 6) for _ in range(count)])
    edges = np.quantile(fields, [0.2, 0.4, 0.6, 0.8])
    region = np.searchsorted(edges, fields)
    mask = np.array([0, 1, 2, 5, 255], np.uint8)[region]
    image = np.array([0, 60, 120, 180, 240], np.uint8)[region]
    return batch_of(torch.from_numpy(image)[:, None], torch.from_numpy(mask))


def forced(augment: ResizedCropAugment, batch: Batch, *draws: Draw) -> Batch:
    return augment.apply(batch, draws)


def shown(box: tuple[int, int, int, int], side: int = 96) -> Draw:
    """Parameters that show a box of a square patch of 96 px, and change nothing else."""
    scale, shift = show_box(box, (96, 96), (side, side))
    return Draw(scale=scale, shift=shift)


def smooth_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((height, width)), 3)
    pixels: NDArray[np.uint8] = np.clip(128 + 50 * noise / noise.std(), 0, 255).astype(np.uint8)
    return pixels


def test_without_changes_the_patch_stays() -> None:
    batch = classes()
    for options in (PLAIN, ALWAYS):
        out = ResizedCropAugment(**options, noise_variance=(0, 0))(batch, 0, 0)
        torch.testing.assert_close(out["image"], batch["image"].float(), atol=0.05, rtol=0)
        assert torch.equal(out["mask"], batch["mask"])


@pytest.mark.parametrize("box", [(10, 20, 40, 30), (0, 0, 96, 50), (30, 6, 55, 80)])
def test_a_crop_is_resized_as_torchvision_resizes_it(box: tuple[int, int, int, int]) -> None:
    image = torch.from_numpy(smooth_image(96, 96))[None, None]
    out = forced(ResizedCropAugment(), batch_of(image), shown(box))["image"]
    expected = resized_crop(image.float(), *box, [96, 96], antialias=False)
    # At its edges the crop goes on into the patch, where torchvision repeats the last pixel.
    torch.testing.assert_close(out[..., 3:-3, 3:-3], expected[..., 3:-3, 3:-3], atol=0.05, rtol=0)


def test_a_smaller_result_is_a_mean_over_pixels() -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 1, 96, 128), dtype=np.uint8))
    mask = torch.full((2, 96, 128), 3, dtype=torch.uint8)
    options = {**PLAIN, "aspect": (128 / 96, 128 / 96)}
    out = ResizedCropAugment(**options, size=32)(batch_of(image, mask), 0, 0)
    assert out["image"].shape == (2, 1, 32, 32)
    assert torch.equal(out["mask"], torch.full((2, 32, 32), 3, dtype=torch.uint8))
    part = ResizedCropAugment(size=32)
    exact = forced(part, batch_of(image[:1, ..., :96]), shown((0, 0, 96, 96), 32))["image"]
    pooled = torch.nn.functional.avg_pool2d(image[:1, ..., :96].float(), 3)
    torch.testing.assert_close(exact, pooled, atol=0.05, rtol=0)


def test_flips_and_quarter_turns_are_exact() -> None:
    batch = classes(1, 65)
    mask, image = batch["mask"], batch["image"].float()
    for draw, change in (
        (Draw(flip=(-1, 1)), lambda x: x.flip(-2)),
        (Draw(flip=(1, -1)), lambda x: x.flip(-1)),
        (Draw(angle=math.pi / 2), lambda x: torch.rot90(x, -1, (-2, -1))),
        (Draw(angle=math.pi / 2, flip=(-1, 1)), lambda x: torch.rot90(x.flip(-2), -1, (-2, -1))),
    ):
        out = forced(ResizedCropAugment(), batch, draw)
        torch.testing.assert_close(out["image"], change(image), atol=0.1, rtol=0)
        assert torch.equal(out["mask"], change(mask))


def test_flips_come_after_crop_and_rotation() -> None:
    batch = classes(8)
    plain = ResizedCropAugment(flip=False, contrast=0, brightness=0, probability=1)(batch, 3, 1)
    flipped = ResizedCropAugment(contrast=0, brightness=0, probability=1)(batch, 3, 1)
    kinds = set()
    for index in range(8):
        draw = ResizedCropAugment().draw(stream(3, Purpose.AUGMENTATION, 1, index), (96, 96))
        axes = [axis for axis, sign in zip((-2, -1), draw.flip, strict=True) if sign < 0]
        torch.testing.assert_close(flipped["image"][index], plain["image"][index].flip(axes), atol=0.1, rtol=0)
        kinds.add(draw.flip)
    assert len(kinds) > 2


@given(seed=st.integers(0, 10**6), size=st.sampled_from([None, 64]), probability=st.sampled_from([0.0, 0.5, 1.0]))
def test_image_and_multiclass_mask_move_together(seed: int, size: int | None, probability: float) -> None:
    batch = classes()
    out = ResizedCropAugment(size=size, contrast=0, brightness=0, probability=probability)(batch, seed, 1)
    assert set(out["mask"].flatten().tolist()) <= {0, 1, 2, 5, 255}
    grey = out["image"][:, 0]
    spread = torch.nn.functional.max_pool2d(grey[:, None], 5, 1, 2) + torch.nn.functional.max_pool2d(
        -grey[:, None], 5, 1, 2
    )
    # Away from outlines, where bilinear and nearest neighbour may differ by a pixel.
    flat = spread[:, 0] < 1
    expected = torch.full_like(out["mask"], 9)
    for value, level in ((0, 0), (1, 60), (2, 120), (5, 180), (255, 240)):
        expected[(grey - level).abs() < 2] = value
    # What lies beyond the patch is ignored, whatever is mirrored there.
    inside = flat & (out["mask"] != 255)
    assert inside.any()
    assert torch.equal(out["mask"][inside], expected[inside])


def test_pixels_from_outside_are_ignored_and_mirrored() -> None:
    image = torch.full((1, 1, 64, 64), 90, dtype=torch.uint8)
    out = forced(ResizedCropAugment(), batch_of(image), Draw(angle=math.pi / 4))
    rows, columns = np.mgrid[:64, :64] - 31.5
    beyond = torch.from_numpy(np.abs(rows) + np.abs(columns) > 32 * math.sqrt(2) + 1)
    within = torch.from_numpy(np.abs(rows) + np.abs(columns) < 32 * math.sqrt(2) - 1)
    assert (out["mask"][0][beyond] == 255).all()
    assert (out["mask"][0][within] == 0).all()
    torch.testing.assert_close(out["image"], image.float(), atol=0.05, rtol=0)


def test_brightness_and_contrast_are_those_of_albumentations() -> None:
    image = torch.from_numpy(smooth_image(48, 48))[None, None].repeat(2, 1, 1, 1)
    draws = (Draw(contrast=0.7, brightness=0.1), Draw(contrast=1.3, brightness=-0.3))
    out = forced(ResizedCropAugment(), batch_of(image), *draws)["image"]
    for index, (alpha, beta) in enumerate([(0.7, 0.1), (1.3, -0.3)]):
        expected = np.clip(image[index].numpy().astype(np.float64) * alpha + 255 * beta, 0, 255)
        np.testing.assert_allclose(out[index].numpy(), expected, atol=0.1)


def test_noise_has_the_variance_that_was_asked_for() -> None:
    image = torch.full((8, 1, 160, 160), 128, dtype=torch.uint8)
    out = ResizedCropAugment(**ALWAYS, noise_variance=(400, 400))(batch_of(image), 0, 0)["image"]
    np.testing.assert_allclose(out.flatten(1).var(1).numpy(), 400, rtol=0.04)
    assert not torch.equal(out[0], out[1])
    various = ResizedCropAugment(**ALWAYS, noise_variance=(400, 1200))
    variances = [various.draw(np.random.default_rng(n), (64, 64)).noise ** 2 for n in range(2000)]
    assert stats.kstest(variances, stats.uniform(400, 800).cdf).pvalue > 0.01


@pytest.mark.parametrize("width", [0.4, 1.4, 7.0])
def test_blur_is_that_of_scipy(width: float) -> None:
    image = torch.from_numpy(smooth_image(96, 96))[None, None]
    out = forced(ResizedCropAugment(blur_px=7.0), batch_of(image), Draw(blur=width))["image"]
    expected = ndimage.gaussian_filter(image[0, 0].numpy().astype(float), width, mode="mirror", radius=21)
    np.testing.assert_allclose(out[0, 0].numpy(), expected, atol=0.06)


def test_blur_leaves_the_mask_and_unblurred_patches_alone() -> None:
    batch = classes()
    out = forced(ResizedCropAugment(blur_px=7.0), batch, Draw(), Draw(blur=5.0))
    torch.testing.assert_close(out["image"][0], batch["image"][0].float(), atol=0.05, rtol=0)
    assert (out["image"][1] - batch["image"][1]).abs().max() > 20
    assert torch.equal(out["mask"], batch["mask"])
    # A patch that is lower than the kernel, and not square.
    tiny = forced(ResizedCropAugment(blur_px=7.0), batch_of(torch.ones(1, 1, 9, 30)), Draw(blur=7.0))
    torch.testing.assert_close(tiny["image"], torch.ones(1, 1, 9, 30), atol=1e-3, rtol=0)


def test_draws_fill_their_ranges_and_probabilities() -> None:
    augment = ResizedCropAugment(noise_variance=(400, 1200), blur_px=7.0)
    draws = [augment.draw(np.random.default_rng([1, number]), (224, 224)) for number in range(3000)]
    values = {
        "angle": ([draw.angle for draw in draws], 0.0, -math.pi, math.pi),
        "contrast": ([draw.contrast for draw in draws], 1.0, 0.7, 1.3),
        "brightness": ([draw.brightness for draw in draws], 0.0, -0.3, 0.3),
        "noise": ([draw.noise for draw in draws], 0.0, 20.0, math.sqrt(1200)),
        "blur": ([draw.blur for draw in draws], 0.0, 0.0, 7.0),
    }
    for name, (drawn, nothing, low, high) in values.items():
        changed = [value for value in drawn if value != nothing]
        assert len(changed) / len(drawn) == pytest.approx(0.5, abs=0.03), name
        assert low <= min(changed) < low + 0.03 * (high - low), name
        assert high - 0.03 * (high - low) < max(changed) <= high, name
    for axis in range(2):
        assert np.mean([draw.flip[axis] < 0 for draw in draws]) == pytest.approx(0.5, abs=0.03)


def test_an_option_changes_nothing_but_its_own_effect() -> None:
    plain, noisy = ResizedCropAugment(), ResizedCropAugment(noise_variance=(400, 1200), blur_px=3.0, flip=False)
    for number in range(20):
        one = plain.draw(np.random.default_rng(number), (64, 64))
        other = noisy.draw(np.random.default_rng(number), (64, 64))
        # After one flip, to turn is to turn the other way round.
        angle = one.angle * one.flip[0] * one.flip[1]
        assert (one.scale, one.shift, angle, one.contrast) == (other.scale, other.shift, other.angle, other.contrast)


def test_shapes_types_and_range() -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 1, 48, 80), dtype=np.uint8))
    batch = batch_of(image)
    augment = ResizedCropAugment(contrast=1.0, brightness=1.0, noise_variance=(1200, 1200), blur_px=1.0)
    out = augment(batch, 0, 0)
    assert (out["image"].dtype, out["image"].shape) == (torch.float32, (4, 1, 48, 80))
    assert (out["mask"].dtype, out["mask"].shape) == (torch.uint8, (4, 48, 80))
    assert out["image"].min() >= 0
    assert out["image"].max() <= 255
    assert batch["image"].dtype == torch.uint8, "the batch given is left alone"
    assert out.keys() == batch.keys()
    assert out["image"].device == batch["image"].device


def test_augmentation_depends_on_nothing_but_its_key() -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 1, 64, 64), dtype=np.uint8))
    augment = ResizedCropAugment(noise_variance=(400, 1200), blur_px=7.0)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    whole = augment(batch_of(image), 7, 3)["image"]
    assert torch.equal(torch.get_rng_state(), before)
    for chosen in ([2], [5, 0], [3, 1, 4, 2]):
        part = augment(batch_of(image[chosen], indices=chosen), 7, 3)["image"]
        torch.testing.assert_close(part, whole[chosen], atol=1e-3, rtol=0)
    for seed, epoch, index in ((8, 3, 2), (7, 4, 2), (7, 3, 9)):
        other = augment(batch_of(image[2:3], indices=[index]), seed, epoch)["image"]
        assert not torch.allclose(other, whole[2:3], atol=1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_an_accelerator_gives_the_same_geometry() -> None:
    batch = classes()
    augment = ResizedCropAugment(blur_px=3.0)
    there = batch_of(batch["image"].cuda(), batch["mask"].cuda())
    here, found = augment(batch, 1, 2), augment(there, 1, 2)
    assert found["image"].is_cuda
    torch.testing.assert_close(found["image"].cpu(), here["image"], atol=0.1, rtol=0)
    assert (found["mask"].cpu() != here["mask"]).float().mean() < 0.001


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": (0.0, 1.0)}, "crop must be"),
        ({"crop": (0.5, 1.2)}, "up to 1"),
        ({"aspect": (2.0, 1.0)}, "aspect must be"),
        ({"contrast": 1.5}, "contrast must lie"),
        ({"probability": -0.1}, "probability must lie"),
        ({"size": 2}, "size must be"),
        ({"noise_variance": (1200, 400)}, "noise_variance"),
        ({"noise_variance": (-1, 400)}, "noise_variance"),
        ({"blur_px": -1.0}, "blur_px must lie"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ResizedCropAugment(**options)
