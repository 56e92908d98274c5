"""The competition's score: its own images, its formulas written out, its special cases."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation
from skimage.morphology import disk

from data_modules.errors import UserError
from lightning_emseg.metrics.boundary.tolerance import urisc_binary_score, urisc_score
from lightning_emseg.metrics.classes import UriscF1
from lightning_emseg.metrics.mosaic_pair import MosaicPair
from tests.support import DATA

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

REAL = DATA / "urisc_eval"
# Of reference.md: the binary variant, which no script was published for.
PAIRS = [("pre.png", "gt.png", 0.535572), ("pres/1.png", "gts/1.png", 0.505781)]


@pytest.mark.parametrize(("prediction", "truth", "binary"), PAIRS)
def test_real_pairs_score_as_published(prediction: str, truth: str, binary: float) -> None:
    if not REAL.is_dir():
        pytest.skip("real data set urisc_eval is not beside the repository")
    published = json.loads((REAL / "official_f1.json").read_text())["F1"][f"{prediction}|{truth}"]
    predicted = np.asarray(Image.open(REAL / prediction)) == 0
    grey = np.asarray(Image.open(REAL / truth))[..., 0]
    assert urisc_score(grey, predicted).f1 == pytest.approx(published, abs=1e-12)
    assert urisc_binary_score(grey < 128, predicted).f1 == pytest.approx(binary, abs=1e-6)
    comparison = MosaicPair((grey < 128).astype(np.uint8), 255 * predicted.astype(np.uint8), 128, (2.18, 2.18))
    assert UriscF1().row(comparison)[0] == pytest.approx(binary, abs=1e-6)


def by_the_formulas(grey: Pixels, predicted: Mask, radius: int) -> tuple[float, float]:
    """Precision and recall of masks that are not empty, with weights g = 255 − grey value."""
    weights = 255.0 - grey
    near_truth = binary_dilation(weights > 0, disk(radius))
    near_prediction = binary_dilation(predicted, disk(radius))
    precision = (predicted & near_truth).sum() / predicted.sum()
    return float(precision), float(weights[near_prediction].sum() / weights.sum())


@given(
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=14),
    st.integers(0, 2**16),
    st.integers(0, 6),
    st.booleans(),
)
@example((30, 40), 0, 2, True)
@example((30, 40), 1, 3, False)
def test_equals_the_formulas_with_a_disk(shape: tuple[int, int], seed: int, radius: int, grey: bool) -> None:
    random = np.random.default_rng(seed)
    values = random.choice(np.array([0, 7, 130, 254] if grey else [0], np.uint8), shape)
    truth = np.where(random.random(shape) < 0.15, values, 255).astype(np.uint8)
    predicted = random.random(shape) < 0.1
    truth.flat[0], predicted.flat[-1] = 3 if grey else 0, True
    if grey:
        radius = 0
    precision, recall = by_the_formulas(truth, predicted, radius)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = urisc_score(truth, predicted)
    if not grey:
        assert radius or urisc_binary_score(truth == 0, predicted) == found
        found = urisc_binary_score(truth == 0, predicted, radius)
    assert (found.precision, found.recall) == pytest.approx((precision, recall))
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert found.f1 == pytest.approx(f1)


@pytest.mark.parametrize(
    ("true", "found", "expected"),
    [
        (True, False, (0.0, 1.0, 0.0)),
        (False, True, (0.0, 0.0, 1.0)),
        (False, False, (1.0, 1.0, 1.0)),
        (True, True, (1.0, 1.0, 1.0)),
    ],
)
@pytest.mark.parametrize("radius", [0, 2])
def test_special_cases_of_the_script(true: bool, found: bool, expected: tuple[float, ...], radius: int) -> None:
    grey, predicted = np.full((9, 9), 255, np.uint8), np.zeros((9, 9), bool)
    grey[4, 4], predicted[4, 4] = 255 * (not true), found
    for score in (urisc_score(grey, predicted), urisc_binary_score(grey == 0, predicted, radius)):
        assert (score.f1, score.precision, score.recall) == expected


def test_membrane_beside_the_true_one_scores_nothing() -> None:
    grey, predicted = np.full((9, 9), 255, np.uint8), np.zeros((9, 9), bool)
    grey[2, 2], predicted[6, 6] = 0, True
    assert urisc_score(grey, predicted).f1 == 0


def test_faint_truth_counts_whole_for_precision_alone() -> None:
    grey, predicted = np.full((9, 9), 255, np.uint8), np.zeros((9, 9), bool)
    grey[0, 0], grey[0, 1], predicted[0, 0] = 254, 0, True
    score = urisc_score(grey, predicted)
    assert (score.precision, score.recall) == pytest.approx((1, 1 / 256))


def test_too_much_membrane_is_scored_with_a_warning() -> None:
    grey, predicted = np.full((6, 10), 255, np.uint8), np.zeros((6, 10), bool)
    grey[0] = 0
    predicted[0] = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Just a fifth.
        urisc_score(grey, predicted)
    predicted[1, 0] = True
    with pytest.warns(UserWarning, match=r"pre/1\.png: membrane exceeds a fifth"):
        score = urisc_score(grey, predicted, name="pre/1.png")
    assert (score.precision, score.recall) == pytest.approx((10 / 11, 1))


def test_ignored_pixels_count_nowhere() -> None:
    truth = np.array([[1, 1, 0, 0, 255, 255]], np.uint8)
    probability = np.array([[255, 0, 255, 0, 255, 0]], np.uint8)
    assert UriscF1().row(MosaicPair(truth, probability, 128, (4.0, 4.0))) == (0.5, 0.5, 0.5)


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot score"):
        urisc_score(np.zeros((4, 4), np.uint8), np.zeros((4, 5), bool))
    volume = np.zeros((3, 9, 9), np.uint8)
    with pytest.raises(UserError, match=r"UriscF1 is defined for planes"):
        UriscF1().row(MosaicPair(volume, volume, 128, (40.0, 4.0, 4.0)))
    with pytest.raises(UserError, match="bound_pix"):
        UriscF1(-1)
