import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from data_modules.images.pages import find_images
from data_modules.tiling.building import is_inverted, polarity
from tests.support import DATA

DARK = (
    "isbi2012/train/images/00.png", "isbi2012/test/images/00.png", "vnc_sstem/stack1/raw/00.png",
    "vnc_sstem/stack2/raw/00.png", "sbem_mito_cdeep3m/training/images/010.png", "fib25_medulla/raw.tif",
    "gala_fibsem/train_raw.tif", "cremi2d_membrane/images/0114.png", "cem_examples/images/er.png",
)  # fmt: skip
"""Sets in which stain is dark by their description or by eye."""


def cells(seed: int, line: int, ground: int) -> NDArray[np.uint8]:
    """Cells with a wall of about three px between them."""
    generator = np.random.default_rng(seed)
    seeds = np.zeros((256, 256), bool)
    seeds[tuple(generator.integers(0, 256, (2, 60)))] = True
    nearest = ndimage.distance_transform_edt(~seeds, return_distances=False, return_indices=True)
    ids = nearest[0] * 256 + nearest[1]
    wall = ndimage.maximum_filter(ids, 3) != ndimage.minimum_filter(ids, 3)
    image = np.where(wall, line, ground) + generator.normal(0, 8, (256, 256))
    return image.clip(0, 255).astype(np.uint8)


@given(seed=st.integers(0, 999), line=st.integers(30, 80))
def test_walls_decide(seed: int, line: int) -> None:
    assert is_inverted(polarity([cells(seed, line, 160)])) == "no"
    assert is_inverted(polarity([cells(seed, 255 - line, 95)])) == "yes"


def test_inverting_changes_the_sign_only() -> None:
    images = [cells(1, 60, 160), cells(2, 90, 150)[:100]]
    assert polarity([~image for image in images]) == pytest.approx(-polarity(images), abs=1e-5)


def test_noise_and_flat_images_are_unclear() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512)).astype(np.uint8)
    assert is_inverted(polarity([noise])) == "unclear"
    assert polarity([np.full((64, 64), 9, np.uint8)]) == 0


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data of ../shared/data is not here")
@pytest.mark.parametrize("name", DARK)
def test_real_dark_stain_is_not_inverted(name: str) -> None:
    pages = [page.read()[:512, :512] for page in find_images(str(DATA / name))[::20]]
    assert is_inverted(polarity(pages)) == "no"
    assert is_inverted(polarity([~page for page in pages])) == "yes"


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data of ../shared/data is not here")
def test_bright_myelin_of_backscattered_electrons_is_inverted() -> None:
    pages = [page.read() for page in find_images(str(DATA / "sem_myelin_ads" / "images"))]
    assert is_inverted(polarity(pages)) == "yes"
