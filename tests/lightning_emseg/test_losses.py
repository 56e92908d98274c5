"""All losses against slow float64 transcriptions of the papers' equations, and the promises they share."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from data_modules.batch import IGNORE
from lightning_emseg.losses import (
    BCELoss,
    DiceLoss,
    FocalDiceLoss,
    FocalLoss,
    TverskyLoss,
)

Pixels = list[tuple[float, int]]
Truth = Callable[[Pixels], float]
SHAPES = [(3, 1, 5, 7), (2, 1, 3, 4, 5)]


def probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def slow_focal(pixels: Pixels, gamma: float) -> float:
    total = 0.0
    for logit, y in pixels:
        p = probability(logit) if y == 1 else 1 - probability(logit)
        total += -((1 - p) ** gamma) * math.log(p)
    return total / len(pixels)


def slow_dice(pixels: Pixels, smooth: float) -> float:
    overlap = sum(y * probability(logit) for logit, y in pixels)
    total = sum(y + probability(logit) for logit, y in pixels)
    return 1 - (2 * overlap + smooth) / (total + smooth)


def slow_bce(pixels: Pixels, weight: float) -> float:
    total = 0.0
    for logit, y in pixels:
        p = probability(logit)
        total -= weight * y * math.log(p) + (1 - y) * math.log(1 - p)
    return total / len(pixels)


def slow_tversky(pixels: Pixels, alpha: float, beta: float, smooth: float) -> float:
    tp = sum(y * probability(logit) for logit, y in pixels)
    fp = sum((1 - y) * probability(logit) for logit, y in pixels)
    fn = sum(y * (1 - probability(logit)) for logit, y in pixels)
    return 1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)


CASES: list[Any] = [
    pytest.param(FocalLoss(), lambda p: slow_focal(p, 2), id="focal"),
    pytest.param(FocalLoss(gamma=0.5), lambda p: slow_focal(p, 0.5), id="focal-half"),
    pytest.param(DiceLoss(), lambda p: slow_dice(p, 1), id="dice"),
    pytest.param(DiceLoss(smooth=3), lambda p: slow_dice(p, 3), id="dice-smooth"),
    pytest.param(FocalDiceLoss(), lambda p: slow_focal(p, 2) + slow_dice(p, 1), id="focal-dice"),
    pytest.param(
        FocalDiceLoss(gamma=1, dice_weight=0.3),
        lambda p: slow_focal(p, 1) + 0.3 * slow_dice(p, 1),
        id="focal-dice-weighted",
    ),
    pytest.param(BCELoss(), lambda p: slow_bce(p, 1), id="bce"),
    pytest.param(BCELoss(positive_weight=18.6), lambda p: slow_bce(p, 18.6), id="bce-weighted"),
    pytest.param(TverskyLoss(), lambda p: slow_tversky(p, 0.3, 0.7, 1), id="tversky"),
    pytest.param(TverskyLoss(1, 0.2, 2), lambda p: slow_tversky(p, 1, 0.2, 2), id="tversky-other"),
]
LOSSES: list[Any] = [pytest.param(case.values[0], id=case.id) for case in CASES]


def batch(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 3, shape)).to(dtype)
    target = torch.from_numpy(rng.choice(np.array([0, 1, IGNORE], np.uint8), (shape[0], *shape[2:]), p=[0.6, 0.2, 0.2]))
    return logits, target


def slow(truth: Truth, logits: Tensor, target: Tensor) -> float:
    scores: npt.NDArray[np.float64] = logits.double().numpy()
    total = 0.0
    for sample in range(len(target)):
        labelled = zip(scores[sample].ravel().tolist(), target[sample].ravel().tolist(), strict=True)
        pixels = [(logit, y) for logit, y in labelled if y != IGNORE]
        total += truth(pixels) if pixels else 0.0
    return total / len(target)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("loss", "truth"), CASES)
def test_equals_the_equation(loss: nn.Module, truth: Truth, shape: tuple[int, ...]) -> None:
    logits, target = batch(shape)
    assert loss(logits, target).item() == pytest.approx(slow(truth, logits, target), rel=1e-12)
    value = loss(logits.float(), target)
    assert value.dtype == torch.float32
    assert value.shape == ()
    assert value.item() == pytest.approx(slow(truth, logits.float(), target), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_that_of_finite_differences(loss: nn.Module) -> None:
    logits, target = batch((2, 1, 3, 4), seed=1)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (logits.requires_grad_(),))


@pytest.mark.parametrize("noise", [0.0, 1e4, math.inf, math.nan])
@pytest.mark.parametrize("loss", LOSSES)
def test_ignored_pixels_do_not_matter(loss: nn.Module, noise: float) -> None:
    logits, target = batch((2, 1, 6, 6), seed=2, dtype=torch.float32)
    ignored = (target == IGNORE).unsqueeze(1)
    changed = torch.where(ignored, noise, logits).requires_grad_()
    value = loss(changed, target)
    assert torch.equal(value, loss(logits, target))
    value.backward()
    assert changed.grad is not None
    assert torch.all(changed.grad[ignored] == 0)
    assert torch.all(changed.grad[~ignored] != 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_stays_finite(loss: nn.Module, dtype: torch.dtype) -> None:
    extreme = torch.tensor([60000.0, -60000.0, 60000.0, -60000.0, 0.0], dtype=dtype).reshape(1, 1, 1, 5)
    logits = extreme.requires_grad_()
    value = loss(logits, torch.tensor([[[0, 1, 1, 0, 1]]], dtype=torch.uint8))
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    value.backward()
    assert logits.grad is not None
    assert logits.grad.dtype == dtype
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_autocast_changes_nothing(loss: nn.Module) -> None:
    logits, target = batch((2, 1, 8, 8), seed=3, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(logits, target)
    assert torch.equal(inside, loss(logits, target))


@pytest.mark.parametrize("loss", LOSSES)
def test_mean_over_ranks_is_the_batch_loss(loss: nn.Module) -> None:
    logits, target = batch((4, 1, 6, 5), seed=4)
    target[0, 1:] = IGNORE
    whole, halves = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = loss(whole, target)
    of_ranks = (loss(halves[:2], target[:2]) + loss(halves[2:], target[2:])) / 2
    assert of_ranks.item() == pytest.approx(value.item(), rel=1e-12)
    value.backward()
    of_ranks.backward()
    torch.testing.assert_close(halves.grad, whole.grad)


@pytest.mark.parametrize("loss", LOSSES)
def test_sample_without_valid_pixels_counts_as_zero(loss: nn.Module) -> None:
    logits, target = batch((2, 1, 4, 4), seed=5)
    target[1] = IGNORE
    x = logits.clone().requires_grad_()
    value = loss(x, target)
    assert value.item() == pytest.approx(loss(logits[:1], target[:1]).item() / 2, rel=1e-12)
    value.backward()
    assert x.grad is not None
    assert torch.all(x.grad[1] == 0)
    assert loss(logits[1:], target[1:]).item() == 0


@pytest.mark.parametrize("loss", [FocalLoss(), DiceLoss(), FocalDiceLoss(), BCELoss(2), TverskyLoss()])
def test_compiles_as_one_graph(loss: nn.Module) -> None:
    logits, target = batch((2, 1, 4, 4), seed=8)
    compiled: Callable[[Tensor, Tensor], Tensor] = torch.compile(loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))


@pytest.mark.parametrize("loss", LOSSES)
def test_perfect_is_near_zero_and_better_than_wrong(loss: nn.Module) -> None:
    _, target = batch((2, 1, 6, 6), seed=6)
    right = torch.where(target == 1, 30.0, -30.0).unsqueeze(1)
    assert 0 <= loss(right, target).item() < 1e-6
    assert loss(-right, target).item() > 0.5


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("logits", "target"),
    [((2, 4, 4), (2, 4, 4)), ((2, 2, 4, 4), (2, 4, 3)), ((2, 1, 4, 4), (2, 1, 4, 4)), ((2,), (2,))],
)
def test_wrong_shapes_are_named(loss: nn.Module, logits: tuple[int, ...], target: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"logits \(B, 1, \*S\) and a target \(B, \*S\), but got logits \(2,"):
        loss(torch.zeros(logits), torch.zeros(target, dtype=torch.uint8))


def test_integer_logits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"floating logits, but got torch\.int64"):
        FocalLoss()(torch.zeros(1, 1, 2, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.uint8))


@pytest.mark.parametrize(
    "build",
    [
        lambda: FocalLoss(gamma=-1),
        lambda: DiceLoss(smooth=0),
        lambda: FocalDiceLoss(dice_weight=-0.1),
        lambda: BCELoss(positive_weight=0),
        lambda: TverskyLoss(alpha=-1),
        lambda: TverskyLoss(smooth=0),
    ],
)
def test_settings_out_of_range_are_refused(build: Callable[[], nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"Loss: .* must be"):
        build()


def test_settings_at_their_bounds_are_accepted() -> None:
    logits, target = batch((2, 1, 4, 5))
    torch.testing.assert_close(FocalDiceLoss(dice_weight=0)(logits, target), FocalLoss()(logits, target))
    torch.testing.assert_close(FocalLoss(gamma=0)(logits, target), BCELoss()(logits, target))
    for alpha, beta in ((0, 0.7), (0.3, 0)):
        expected = slow(lambda pixels: slow_tversky(pixels, alpha, beta, 1), logits, target)  # noqa: B023
        assert TverskyLoss(alpha, beta)(logits, target).item() == pytest.approx(expected, rel=1e-12)


@given(seed=st.integers(0, 10**6), smooth=st.floats(0.1, 10))
def test_relations_between_losses(seed: int, smooth: float) -> None:
    logits, target = batch((2, 1, 4, 5), seed)
    torch.testing.assert_close(TverskyLoss(0.5, 0.5, smooth)(logits, target), DiceLoss(2 * smooth)(logits, target))
    bce, focal = BCELoss()(logits, target), [FocalLoss(gamma)(logits, target) for gamma in (0.0, 1.0, 2.0)]
    torch.testing.assert_close(focal[0], bce)
    assert focal[2] <= focal[1] <= bce


@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_bce_is_that_of_torch(weight: float) -> None:
    logits, target = batch((2, 1, 6, 6), seed=7)
    target[target == IGNORE] = 0
    expected = nn.functional.binary_cross_entropy_with_logits(
        logits[:, 0], target.double(), pos_weight=torch.tensor(weight)
    )
    torch.testing.assert_close(BCELoss(weight)(logits, target), expected)
