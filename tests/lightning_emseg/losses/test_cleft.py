"""CleftNet's losses against slow float64 transcriptions of its equations, and the promises that all losses share."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from lightning_emseg.losses.cleft import (
    FLOOR,
    CleftLoss,
    CoherenceLoss,
    Reading,
    WeightedL2Loss,
    boundary_labels,
)
from lightning_emseg.losses.weighted_bce import WeightedBCELoss
from tests.support.cleft_equations import (
    Voxel,
    slow_balanced,
    slow_boundary,
    slow_coherence,
    slow_segmentation,
    slow_total,
    slow_total_as_printed,
)

Loss = Callable[[Tensor, Tensor], Tensor]
VOXEL = (10.0, 1.0, 1.0)
SHAPE = (3, 2, 3, 6, 7)


class OnFirst(nn.Module):
    """`WeightedBCELoss` of two channels' first."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return WeightedBCELoss()(logits[:, :1], target)  # type: ignore[no-any-return]


class OnSecond(nn.Module):
    """`WeightedL2Loss` of two channels' second, with the boundary labels of the mask."""

    def __init__(self, loss: WeightedL2Loss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.loss(logits[:, 1:], boundary_labels(target, VOXEL), target)  # type: ignore[no-any-return]


CASES: list[Any] = [
    pytest.param(OnFirst(), slow_segmentation, id="segmentation"),
    pytest.param(OnSecond(WeightedL2Loss()), slow_boundary, id="boundary"),
    pytest.param(OnSecond(WeightedL2Loss("as_printed")), lambda v: slow_boundary(v, True), id="boundary-as-printed"),
    pytest.param(CoherenceLoss(), slow_coherence, id="coherence"),
    pytest.param(CoherenceLoss("as_printed"), lambda v: slow_coherence(v, True), id="coherence-as-printed"),
    pytest.param(CleftLoss(), slow_total, id="total"),
    pytest.param(CleftLoss(balanced=True), slow_balanced, id="total-balanced"),
    pytest.param(CleftLoss(0.3, 0.7, "as_printed", "as_printed"), slow_total_as_printed, id="total-as-printed"),
]
LOSSES: list[Any] = [pytest.param(case.values[0], id=case.id) for case in CASES]
INTENDED: list[Any] = [case for case in LOSSES if case.id in ("segmentation", "boundary", "coherence", "total")]


def batch(seed: int = 0, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    drawn = torch.rand((shape[0], *shape[2:]), generator=generator)
    target = torch.where(drawn < 0.6, 0, torch.where(drawn < 0.85, 1, IGNORE)).to(torch.uint8)
    return logits.to(dtype), target


def slow(equation: Callable[[list[Voxel]], float], logits: Tensor, target: Tensor) -> float:
    boundary = boundary_labels(target, VOXEL)
    total = 0.0
    for scores, labels, depths in zip(logits.double(), target, boundary, strict=True):
        values = (scores[0].ravel(), scores[1].ravel(), labels.ravel(), depths.ravel())
        rows = zip(*(each.tolist() for each in values), strict=True)
        voxels = [Voxel(*row) for row in rows if row[2] != IGNORE]
        total += equation(voxels) if voxels else 0.0
    return total / len(target)


@pytest.mark.parametrize(("loss", "equation"), CASES)
def test_equals_the_equation(loss: Loss, equation: Callable[[list[Voxel]], float]) -> None:
    logits, target = batch()
    value = loss(logits, target)
    assert value.shape == ()
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(slow(equation, logits, target), rel=1e-12)
    single = loss(logits.float(), target)
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(slow(equation, logits.float(), target), rel=1e-5)


@pytest.mark.parametrize(("loss", "equation"), CASES)
def test_equals_the_equation_at_extreme_logits(loss: Loss, equation: Callable[[list[Voxel]], float]) -> None:
    depths = [1e-9, FLOOR / 2, FLOOR * 1.01, 0.0, -0.0, -1e-9, 30.0, -30.0]
    logits = torch.tensor([depths[::-1], depths], dtype=torch.float64)[None, :, None, None]
    target = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1], dtype=torch.uint8)[None, None, None]
    assert loss(logits, target).item() == pytest.approx(slow(equation, logits, target), rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_that_of_finite_differences(loss: Loss) -> None:
    drawn, target = batch(1, (2, 2, 2, 3, 4))
    logits = drawn + 0.1 * drawn.sign()  # away from the jump of L_c at ŷ_b = 0
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (logits.requires_grad_(),))


@pytest.mark.parametrize("noise", [0.0, 1e4, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("loss", LOSSES)
def test_ignored_voxels_do_not_matter(loss: Loss, noise: float) -> None:
    logits, target = batch(2, dtype=torch.float32)
    ignored = (target == IGNORE)[:, None].expand_as(logits)
    changed = torch.where(ignored, noise, logits).requires_grad_()
    value = loss(changed, target)
    assert torch.equal(value, loss(logits, target))
    value.backward()  # type: ignore[no-untyped-call]
    assert changed.grad is not None
    assert (changed.grad[ignored] == 0).all()
    assert torch.isfinite(changed.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_stays_finite(loss: Loss, dtype: torch.dtype) -> None:
    # All pairs of certain, undecided and barely positive, on cleft and background.
    values = torch.tensor([60000.0, -60000.0, 0.0, 6e-8, -6e-8], dtype=dtype)
    logits = torch.cartesian_prod(values, values).T.reshape(1, 2, 1, 1, 25).repeat(1, 1, 1, 2, 1).requires_grad_()
    target = torch.tensor([0, 1], dtype=torch.uint8)[None, None, :, None].expand(1, 1, 2, 25)
    value = loss(logits, target)
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    value.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.dtype == dtype
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_autocast_changes_nothing(loss: Loss) -> None:
    logits, target = batch(3, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(logits, target)
    assert torch.equal(inside, loss(logits, target))


@pytest.mark.parametrize("loss", LOSSES)
def test_mean_over_ranks_is_the_batch_loss(loss: Loss) -> None:
    logits, target = batch(4, (4, 2, 2, 5, 5))
    target[0, 1:] = IGNORE
    whole, halves = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = loss(whole, target)
    of_ranks = (loss(halves[:2], target[:2]) + loss(halves[2:], target[2:])) / 2
    assert of_ranks.item() == pytest.approx(value.item(), rel=1e-12)
    value.backward()  # type: ignore[no-untyped-call]
    of_ranks.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(halves.grad, whole.grad)


@pytest.mark.parametrize("loss", LOSSES)
def test_sample_without_valid_voxels_counts_as_zero(loss: Loss) -> None:
    logits, target = batch(5)
    target[1:] = IGNORE
    x = logits.clone().requires_grad_()
    value = loss(x, target)
    assert value.item() == pytest.approx(loss(logits[:1], target[:1]).item() / 3, rel=1e-12)
    value.backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert (x.grad[1:] == 0).all()
    assert loss(logits[1:], target[1:]).item() == 0


def test_a_patch_without_clefts_teaches_by_coherence_alone() -> None:
    logits, target = batch(6, (1, 2, 2, 6, 6))
    target[target == 1] = 0
    assert WeightedBCELoss()(logits[:, :1], target).item() == 0
    assert WeightedL2Loss()(logits[:, 1:], boundary_labels(target), target).item() == 0
    torch.testing.assert_close(CleftLoss(balanced=True)(logits, target), 0.2 * CoherenceLoss()(logits, target))
    # As printed, β of L_b is 0 there, and all the weight lies on the outside.
    everywhere = (torch.tanh(logits[:, 1])[target == 0] ** 2).mean()
    printed = WeightedL2Loss("as_printed")(logits[:, 1:], boundary_labels(target), target)
    torch.testing.assert_close(printed, everywhere)
    torch.testing.assert_close(CleftLoss()(logits, target), 0.2 * CoherenceLoss()(logits, target))


def test_one_voxel_in_a_million_keeps_its_weight() -> None:
    target = torch.zeros(1, 100, 100, 100, dtype=torch.uint8)
    target[0, 50, 50, 50] = 1
    logits, boundary = torch.ones(1, 1, 100, 100, 100), target.float()
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=0, check_dtype=False)
    close(WeightedBCELoss()(logits, target), WeightedBCELoss()(logits.double(), target))
    close(WeightedL2Loss()(logits, boundary, target), WeightedL2Loss()(logits.double(), boundary.double(), target))


@pytest.mark.parametrize("balanced", [False, True])
def test_classes_weigh_the_same_however_rare_one_is(balanced: bool) -> None:
    for clefts in (1, 10, 50, 99):
        target = (torch.arange(100) < clefts).to(torch.uint8)[None]
        logits = torch.zeros(1, 1, 100, requires_grad=True)
        WeightedBCELoss(balanced)(logits, target).backward()
        assert logits.grad is not None
        of_clefts, of_rest = logits.grad[0, 0, :clefts].sum(), logits.grad[0, 0, clefts:].sum()
        torch.testing.assert_close(of_clefts, -of_rest)
        if balanced:
            assert of_clefts.item() == pytest.approx(-0.25)


@pytest.mark.parametrize("loss", INTENDED)
def test_perfect_is_near_zero_and_better_than_wrong(loss: Loss) -> None:
    _, target = batch(7)
    certain = torch.where(target == 1, 30.0, -30.0)
    depth = torch.atanh(boundary_labels(target, VOXEL).clamp(max=1 - 1e-6))
    right = torch.stack([certain, depth], 1)
    assert 0 <= loss(right, target).item() < 1e-6
    # What is wrong in both channels alike would be coherent.
    wrong = torch.stack([-certain, torch.where(depth > 0, -1.0, 0.0)], 1)
    assert loss(wrong, target).item() > 0.1


def test_the_printed_coherence_loss_punishes_correct_background() -> None:
    target = torch.zeros(1, 1, 1, 1, dtype=torch.uint8)
    background = torch.tensor([-5.0, -1.0]).reshape(1, 2, 1, 1, 1)
    assert CoherenceLoss()(background, target).item() < 0.02
    assert CoherenceLoss("as_printed")(background, target).item() > 5


def test_intended_boundary_loss_weighs_the_rare_side() -> None:
    target = torch.zeros(1, 1, 1, 100, dtype=torch.uint8)
    target[..., 0] = 1
    boundary = boundary_labels(target, VOXEL)
    for side in (0, 50):
        off = torch.atanh(boundary)[:, None].clone()
        off[..., side] += 1
        intended, printed = (WeightedL2Loss(each)(off, boundary, target) for each in get_args(Reading))
        assert (intended > printed) == (side == 0)
        assert max(intended, printed).item() == pytest.approx(99 * min(intended, printed).item(), rel=1e-4)


@pytest.mark.parametrize("loss", [OnFirst(), CoherenceLoss(), CoherenceLoss("as_printed")])
def test_compiles_as_one_graph(loss: nn.Module) -> None:
    logits, target = batch(8)
    compiled: Loss = torch.compile(loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))


def test_compiles_but_for_the_distances() -> None:
    logits, target = batch(9)
    depth, boundary = logits[:, 1:], boundary_labels(target)
    whole: Callable[..., Tensor] = torch.compile(WeightedL2Loss(), backend="eager", fullgraph=True)
    torch.testing.assert_close(whole(depth, boundary, target), WeightedL2Loss()(depth, boundary, target))
    broken: Loss = torch.compile(CleftLoss(), backend="eager")
    torch.testing.assert_close(broken(logits, target), CleftLoss()(logits, target))


def test_the_size_of_a_voxel_reaches_the_distances() -> None:
    logits, target = batch(10)
    for voxel in ((10.0, 1.0, 1.0), (1.0, 1.0, 1.0)):
        boundary = WeightedL2Loss()(logits[:, 1:], boundary_labels(target, voxel), target)
        expected = WeightedBCELoss()(logits[:, :1], target) + 0.5 * boundary + 0.2 * CoherenceLoss()(logits, target)
        torch.testing.assert_close(CleftLoss(voxel=voxel)(logits, target), expected)


@pytest.mark.parametrize("loss", [CleftLoss(), CoherenceLoss()])
@pytest.mark.parametrize("channels", [1, 3])
def test_another_number_of_channels_is_refused(loss: Loss, channels: int) -> None:
    logits, target = torch.zeros(1, channels, 2, 4, 4), torch.zeros(1, 2, 4, 4, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"take logits \(B, 2, \*S\).*WeightedBCELoss for one"):
        loss(logits, target)


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    target = torch.zeros(1, 2, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"logits \(B, 1, \*S\) and a target \(B, \*S\), but got"):
        CleftLoss()(torch.zeros(1, 2, 2, 4, 5), target)
    with pytest.raises(ValueError, match=r"boundary label \(2, 4, 4\) does not belong to a target \(1, 2, 4, 4\)"):
        WeightedL2Loss()(torch.zeros(1, 1, 2, 4, 4), torch.zeros(2, 4, 4), target)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CleftLoss(boundary_weight=-1), "boundary_weight and coherence_weight must be at least 0"),
        (lambda: CleftLoss(voxel=[10, 1, 0]), "voxel must hold sizes above 0"),
        (lambda: CleftLoss(coherence_reading="printed"), "coherence_reading must be one of intended, as_printed"),  # type: ignore[arg-type]
        (lambda: WeightedL2Loss("printed"), "reading must be one of intended, as_printed, but is 'printed'"),  # type: ignore[arg-type]
        (lambda: CoherenceLoss("printed"), "reading must be one of intended, as_printed"),  # type: ignore[arg-type]
    ],
)
def test_settings_out_of_range_are_refused(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()
