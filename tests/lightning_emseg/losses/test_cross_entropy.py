"""Cross-entropy of classes against PyTorch's own, and its promises."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from lightning_emseg.losses import (
    BCELoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalDiceLoss,
    FocalLoss,
    TverskyLoss,
)

SPACES = [(5, 7), (2, 3, 4), (6,)]


def case(seed: int, batch: int, classes: int, space: tuple[int, ...], ignored: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, classes, *space, generator=generator, dtype=torch.float64)
    target = torch.randint(0, classes, (batch, *space), generator=generator)
    target[torch.rand(target.shape, generator=generator) < ignored] = IGNORE
    return logits, target.to(torch.uint8)


def exact_loss(weights: Sequence[float] | None = None) -> CrossEntropyLoss:
    """The loss with weights in double precision."""
    loss = CrossEntropyLoss(weights)
    loss.weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    return loss


@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(2, 6),
    space=st.sampled_from(SPACES),
    weights=st.none() | st.lists(st.sampled_from([0.1, 1.0, 3.0, 2.5]), min_size=6, max_size=6),
)
def test_one_sample_equals_pytorch(
    seed: int, classes: int, space: tuple[int, ...], weights: list[float] | None
) -> None:
    logits, target = case(seed, 1, classes, space)
    if (target == IGNORE).all():
        return
    of_class = None if weights is None else torch.tensor(weights[:classes], dtype=torch.float64)
    expected = F.cross_entropy(logits, target.long(), of_class, ignore_index=IGNORE)
    found = exact_loss(None if weights is None else weights[:classes])(logits, target)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weights", [None, [0.1, 3.0, 1.0]])
@pytest.mark.parametrize("space", SPACES)
def test_a_batch_is_the_mean_over_its_samples(space: tuple[int, ...], weights: list[float] | None) -> None:
    logits, target = case(1, 4, 3, space)
    # Samples with unequal numbers of valid pixels, which the mean over the batch's pixels would tell apart.
    target[0, 1:] = IGNORE
    target[0, 0] = 1
    loss = CrossEntropyLoss(weights)
    of_class = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    each = [
        F.cross_entropy(x[None], y[None].long(), of_class, ignore_index=IGNORE)
        for x, y in zip(logits, target, strict=True)
    ]
    torch.testing.assert_close(loss(logits, target), torch.stack(each).mean(), rtol=1e-6, atol=1e-6)
    pooled = F.cross_entropy(logits, target.long(), of_class, ignore_index=IGNORE)
    assert abs(float(loss(logits, target)) - float(pooled)) > 1e-4


def test_two_classes_give_the_logistic_loss() -> None:
    logits, target = case(2, 3, 2, (5, 7), ignored=0)
    expected = F.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], target.double())
    torch.testing.assert_close(CrossEntropyLoss()(logits, target), expected, rtol=1e-12, atol=1e-12)


def test_closed_forms() -> None:
    target = torch.tensor([[0, 1, 2, 3]], dtype=torch.uint8)
    assert float(CrossEntropyLoss()(torch.zeros(1, 4, 4), target)) == pytest.approx(math.log(4))
    certain = 1000 * F.one_hot(target.long(), 4).movedim(-1, 1).float()
    assert float(CrossEntropyLoss()(certain, target)) == 0
    assert float(CrossEntropyLoss()(-certain, target)) == pytest.approx(1000 + math.log(3))


def test_a_sample_without_valid_pixels_counts_as_nothing() -> None:
    logits, target = case(3, 2, 3, (5, 7), ignored=0)
    alone = CrossEntropyLoss()(logits[:1], target[:1])
    target[1] = IGNORE
    torch.testing.assert_close(CrossEntropyLoss()(logits, target), alone / 2)
    assert float(CrossEntropyLoss()(logits, torch.full_like(target, IGNORE))) == 0
    # Nor does one whose classes all weigh nothing.
    target[1] = 2
    weights = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    first = F.cross_entropy(logits[:1], target[:1].long(), weights)
    torch.testing.assert_close(exact_loss([1.0, 1.0, 0.0])(logits, target), first / 2)


@pytest.mark.parametrize("weights", [None, [0.1, 3.0, 1.0]])
def test_gradient(weights: list[float] | None) -> None:
    logits, target = case(4, 2, 3, (3, 4))
    assert torch.autograd.gradcheck(lambda x: exact_loss(weights)(x, target), logits.requires_grad_())


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_ignored_pixels_do_not_matter(value: float) -> None:
    logits, target = case(5, 2, 3, (5, 7))
    clean = logits.clone().requires_grad_()
    broken = torch.where((target == IGNORE)[:, None], value, logits).requires_grad_()
    losses = [CrossEntropyLoss()(each, target) for each in (clean, broken)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    assert clean.grad is not None
    assert broken.grad is not None
    assert torch.equal(clean.grad, broken.grad)
    assert (clean.grad.movedim(1, -1)[target == IGNORE] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_summed_in_single_precision(dtype: torch.dtype) -> None:
    logits, target = (part for part in case(6, 2, 3, (40, 40)))
    found = CrossEntropyLoss([0.1, 3, 1])(logits.to(dtype), target)
    assert found.dtype == torch.float32
    expected = exact_loss([0.1, 3, 1])(logits.to(dtype).double(), target)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("logits", "target"),
    [
        ((2, 3, 5, 7), (2, 5, 6)),
        ((2, 3, 5, 7), (2, 1, 5, 7)),
        ((2, 3, 5, 7), (1, 5, 7)),
        ((6,), (6,)),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(logits: tuple[int, ...], target: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"CrossEntropyLoss takes logits \(B, C, \*S\) of several classes"):
        CrossEntropyLoss()(torch.zeros(logits), torch.zeros(target, dtype=torch.uint8))


def test_losses_refuse_another_number_of_maps() -> None:
    target = torch.zeros(2, 5, 7, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"CrossEntropyLoss is of several classes.*pass model\.classes"):
        CrossEntropyLoss()(torch.zeros(2, 1, 5, 7), target)
    for loss in (FocalDiceLoss(), DiceLoss(), BCELoss(), FocalLoss(), TverskyLoss()):
        with pytest.raises(
            UserError, match=r"model\.loss is of one foreground.*maps of 3 classes: choose CrossEntropy"
        ):
            loss(torch.zeros(2, 3, 5, 7), target)


def test_as_many_weights_as_classes() -> None:
    for count in (2, 4):
        with pytest.raises(UserError, match=f"CrossEntropyLoss has {count} weights for 3 classes"):
            CrossEntropyLoss([1.0] * count)(torch.zeros(1, 3, 5), torch.zeros(1, 5, dtype=torch.uint8))
    for weights in ([1, -0.1], [0, 0], []):
        with pytest.raises(UserError, match="weights must be at least 0, and one above"):
            CrossEntropyLoss(weights)


def test_weights_move_devices_but_stay_unsaved() -> None:
    loss = CrossEntropyLoss([0.1, 3])
    assert loss.state_dict() == {}
    assert [weights.is_meta for weights in loss.to("meta").buffers()] == [True]


def test_order_of_samples_and_pixels_is_irrelevant() -> None:
    logits, target = case(7, 3, 4, (6,))
    losses = [
        CrossEntropyLoss()(logits[list(order)].flip(2), target[list(order)].flip(1))
        for order in itertools.permutations(range(3))
    ]
    torch.testing.assert_close(torch.stack(losses), CrossEntropyLoss()(logits, target).expand(6))
