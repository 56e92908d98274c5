"""Views against torchvision, against turned and pooled tiles, and by what they are keyed."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, rotate
from torch import Tensor
from torchvision.transforms.v2 import functional  # type: ignore[import-untyped]

from data_modules.augment.transforms import Draw
from data_modules.augment.views import TwoViews
from data_modules.batch import TileBatch
from data_modules.errors import UserError
from data_modules.randomness import Purpose, stream

PLAIN: dict[str, Any] = {
    **{"crop": (1.0, 1.0), "aspect": (1.0, 1.0), "flip": False, "rotation_deg": 0.0},
    **{"jitter_probability": 0.0, "blur_probability": 0.0, "noise": (0.0, 0.0)},
}


def batch_of(image: Tensor, index: list[int] | None = None, extent: tuple[int, int] = (224, 224)) -> TileBatch:
    number = len(image)
    return TileBatch(
        image=image,
        extent=torch.tensor([extent] * number),
        mosaic=torch.zeros(number, dtype=torch.long),
        origin=torch.zeros(number, 1, dtype=torch.long),
        pixel_size_nm=torch.full((number, 2), 4.0),
        index=torch.tensor(index if index is not None else range(number)),
        label=torch.zeros(number, dtype=torch.long),
    )


def drawn(views: TwoViews, index: int, seed: int = 0) -> Draw:
    """Parameters of the first view of a whole tile in epoch 0."""
    return views.draw(stream(seed, Purpose.AUGMENTATION, 0, index, 0), [224, 224])


def tiles(number: int, seed: int = 0) -> Tensor:
    noise = np.random.default_rng(seed).normal(size=(number, 1, 224, 224))
    smooth = gaussian_filter(noise, (0, 0, 3, 3))
    return torch.from_numpy(np.clip(128 + 50 * smooth / smooth.std(), 0, 255).astype(np.uint8))


def test_without_any_change_a_view_is_the_tile() -> None:
    image = tiles(2)
    views = TwoViews(**PLAIN)(batch_of(image), 0, 0)
    for name in ("image", "second"):
        torch.testing.assert_close(views[name], image.float(), atol=1e-2, rtol=0)


def test_views_of_half_size_are_means() -> None:
    image = tiles(2)
    view = TwoViews(**PLAIN, size=112)(batch_of(image), 0, 0)["image"]
    torch.testing.assert_close(view, torch.nn.functional.avg_pool2d(image.float(), 2), atol=1e-2, rtol=0)


def test_flips_and_turns_are_those_of_numpy() -> None:
    image = tiles(1)
    mirrored = image.float().flip(-1)
    views = TwoViews(**{**PLAIN, "flip": True})
    found = [views(batch_of(image, [index]), 0, 0)["image"] for index in range(16)]
    is_mirrored = [bool((view - mirrored).abs().max() < 0.1) for view in found]
    is_same = [bool((view - image.float()).abs().max() < 0.1) for view in found]
    assert [one != other for one, other in zip(is_mirrored, is_same, strict=True)] == [True] * 16
    assert 3 <= sum(is_mirrored) <= 13
    turned = TwoViews(**{**PLAIN, "rotation_deg": 180.0})
    view = turned(batch_of(image), 0, 0)["image"][0, 0]
    angle = math.degrees(drawn(turned, 0).angle)
    # Scipy turns the other way round.
    expected = rotate(image[0, 0].numpy().astype(float), -angle, reshape=False, order=1, mode="mirror")
    middle = (slice(60, 164), slice(60, 164))
    assert np.abs(view.numpy()[middle] - expected[middle]).max() < 1.0


@pytest.mark.parametrize("seed", range(3))
def test_jitter_is_that_of_torchvision(seed: int) -> None:
    image = tiles(4)
    views = TwoViews(**{**PLAIN, "jitter_probability": 1.0, "jitter": 0.8})
    found = views(batch_of(image), seed, 0)["image"]
    for index in range(4):
        draw = drawn(views, index, seed)
        assert 0.2 <= draw.brightness_factor <= 1.8
        assert 0.2 <= draw.contrast <= 1.8
        share = image[index].float() / 255
        if draw.brightness_first:
            share = functional.adjust_contrast(
                functional.adjust_brightness(share, draw.brightness_factor), draw.contrast
            )
        else:
            share = functional.adjust_brightness(
                functional.adjust_contrast(share, draw.contrast), draw.brightness_factor
            )
        torch.testing.assert_close(found[index], 255 * share, atol=0.02, rtol=0)


def test_some_views_are_blurred_as_by_scipy() -> None:
    image = tiles(12)
    views = TwoViews(**{**PLAIN, "blur_probability": 0.5})
    found = views(batch_of(image), 0, 0)["image"]
    widths = [drawn(views, index).blur for index in range(12)]
    assert 2 <= sum(width == 0 for width in widths) <= 10
    for index, width in enumerate(widths):
        expected = gaussian_filter(image[index, 0].numpy().astype(float), width, mode="mirror", radius=6)
        np.testing.assert_allclose(found[index, 0].numpy(), expected, atol=0.05)


def test_noise_has_the_standard_deviation_that_was_drawn() -> None:
    image = torch.full((6, 1, 224, 224), 128, dtype=torch.uint8)
    views = TwoViews(**{**PLAIN, "noise": (0.001, 0.02)})
    found = views(batch_of(image), 0, 0)["image"]
    shares = [drawn(views, index).noise for index in range(6)]
    assert min(shares) >= 0.001
    assert max(shares) <= 0.02
    for view, share in zip(found, shares, strict=True):
        assert float(view.std()) == pytest.approx(255 * share, rel=0.02)


def test_small_tiles_are_cropped_inside_themselves() -> None:
    # What is not the tile has another grey value, as nothing of it may be seen by unrotated crops.
    image = torch.full((30, 1, 224, 224), 255, dtype=torch.uint8)
    image[..., :120, :150] = 60
    views = TwoViews(**{**PLAIN, "crop": (0.2, 1.0), "aspect": (3 / 4, 4 / 3)})
    made = views(batch_of(image, extent=(120, 150)), 0, 0)
    # Half a pixel of interpolation at the edge of the tile.
    assert float(made["image"][..., 3:-3, 3:-3].max()) < 61
    assert float(made["second"][..., 3:-3, 3:-3].max()) < 61


def test_views_do_not_depend_on_the_batch() -> None:
    image = tiles(3)
    views = TwoViews(size=64)
    whole = views(batch_of(image, [4, 5, 6]), 1, 2)
    alone = views(batch_of(image[1:2], [5]), 1, 2)
    for name in ("image", "second"):
        torch.testing.assert_close(whole[name][1:2], alone[name], atol=1e-3, rtol=0)
    assert not torch.allclose(whole["image"], whole["second"], atol=1)
    for seed, epoch, index in ((2, 2, 5), (1, 3, 5), (1, 2, 9)):
        other = views(batch_of(image[1:2], [index]), seed, epoch)
        assert not torch.allclose(other["image"], alone["image"], atol=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": (0.0, 1.0)}, "crop"),
        ({"crop": (0.5, 1.2)}, "up to 1"),
        ({"aspect": (2.0, 1.0)}, "aspect"),
        ({"jitter": 1.5}, "jitter must lie"),
        ({"size": 2}, "size"),
        ({"noise": (0.1, 0.01)}, "noise"),
        ({"blur_px": (1.0, 9.0)}, "blur_px"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TwoViews(**options)
