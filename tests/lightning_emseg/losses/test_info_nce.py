"""InfoNCE against closed forms and a loop."""

import math

import pytest
import torch
import torch.nn.functional as F

from lightning_emseg.losses.info_nce import contrast_logits, info_nce_loss, share_told_apart


def directions(number: int, dim: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(number, dim, generator=generator, dtype=torch.float64), dim=1)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_orthogonal_negatives_have_a_closed_form(temperature: float) -> None:
    basis = torch.eye(8, dtype=torch.float64)
    logits = contrast_logits(basis[:2], basis[:2], basis[2:].T, temperature)
    expected = math.log1p(6 * math.exp(-1 / temperature))
    assert float(info_nce_loss(logits)) == pytest.approx(expected, rel=1e-9)
    assert float(share_told_apart(logits)) == 1.0


def test_loss_is_that_of_a_loop_over_pairs() -> None:
    query, key, queue = directions(5, 7, 0), directions(5, 7, 1), directions(11, 7, 2)
    total = 0.0
    for q, k in zip(query.tolist(), key.tolist(), strict=True):
        similarities = [sum(a * b for a, b in zip(q, other, strict=True)) / 0.2 for other in [k, *queue.tolist()]]
        total -= similarities[0] - math.log(sum(map(math.exp, similarities)))
    found = info_nce_loss(contrast_logits(query, key, queue.T, 0.2))
    assert float(found) == pytest.approx(total / 5, rel=1e-12)


def test_queries_nearer_to_another_key_count_wrong() -> None:
    basis = torch.eye(4)
    logits = contrast_logits(basis[[0, 1]], basis[[0, 2]], basis[[1, 3]].T, 1.0)
    assert float(share_told_apart(logits)) == 0.5


def test_gradients_flow_into_queries_alone() -> None:
    query, key, queue = (directions(3, 4, seed).requires_grad_() for seed in range(3))
    info_nce_loss(contrast_logits(query, key, queue.T, 0.2)).backward()  # type: ignore[no-untyped-call]
    assert query.grad is not None
    assert key.grad is None
    assert queue.grad is None


def test_logits_are_of_single_precision_under_autocast() -> None:
    query, key, queue = (directions(4, 16, seed).float() for seed in range(3))
    exact = contrast_logits(query, key, queue.T, 0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(contrast_logits(query, key, queue.T, 0.2), exact)
