"""Encoder and key queue of momentum contrast."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_modules.errors import UserError
from lightning_emseg.networks.moco import Embedding, KeyQueue, check_divides
from tests.support import tiny


def test_every_embedding_has_length_one() -> None:
    torch.manual_seed(0)
    found = Embedding(tiny.TIMM_ENCODER, 6)(torch.randn(3, 1, 32, 32))
    assert found.shape == (3, 6)
    torch.testing.assert_close(found.square().sum(dim=1), torch.ones(3))


@given(batch=st.integers(1, 4), times=st.integers(1, 5), steps=st.integers(0, 12))
def test_the_oldest_keys_go_first(batch: int, times: int, steps: int) -> None:
    queue = KeyQueue(3, batch * times)
    latest = list(queue.keys.T.clone())
    for step in range(steps):
        keys = torch.full((batch, 3), float(step)) + torch.arange(batch)[:, None] / 10
        queue.enqueue(keys)
        latest = [*latest[batch:], *keys]
    expected = {tuple(key.tolist()) for key in latest}
    assert {tuple(key) for key in queue.keys.T.tolist()} == expected
    assert int(queue.position) == steps * batch % queue.size
    # The next to be overwritten is the oldest.
    assert torch.equal(queue.keys[:, int(queue.position)], latest[0])


def test_it_begins_with_directions_and_is_kept() -> None:
    queue = KeyQueue(16, 40)
    torch.testing.assert_close(queue.keys.norm(dim=0), torch.ones(40))
    queue.enqueue(torch.zeros(8, 16))
    other = KeyQueue(16, 40)
    other.load_state_dict(queue.state_dict())
    assert int(other.position) == 8
    assert torch.equal(other.keys, queue.keys)


@pytest.mark.parametrize(("batch", "size", "sizes"), [(48, 100, "96 or 144"), (128, 100, "128")])
def test_batches_that_do_not_divide_it_are_refused(batch: int, size: int, sizes: str) -> None:
    with pytest.raises(UserError, match=rf"queue of {size} keys .* batches of {batch} .*queue_size {sizes},"):
        check_divides(batch, size)
    with pytest.raises(UserError, match=f"batches of {batch}"):
        KeyQueue(2, size).enqueue(torch.zeros(batch, 2))
