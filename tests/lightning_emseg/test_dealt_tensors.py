"""Tensors that ranks deal out, put together again and shuffle."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lightning_emseg.distributed import copy_from_first_rank, dealt_out, dealt_together, shared_permutation

ROWS = torch.arange(12.0).view(6, 2)


def test_one_process_has_all_rows_in_order() -> None:
    rows = ROWS.clone().requires_grad_()
    assert torch.equal(dealt_together(rows), ROWS)
    assert not dealt_together(rows).requires_grad
    assert torch.equal(dealt_out(ROWS), ROWS)
    assert sorted(shared_permutation(4, torch.device("cpu")).tolist()) == [0, 1, 2, 3]
    copy_from_first_rank(rows)


def _rank(rank: int, world: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    mine = dealt_out(ROWS)
    assert torch.equal(mine, ROWS[rank::world])
    assert torch.equal(dealt_together(mine), ROWS)
    torch.manual_seed(rank)
    order = shared_permutation(6, torch.device("cpu"))
    assert sorted(order.tolist()) == list(range(6))
    # There and back, whoever computes a row.
    shuffled = dealt_out(dealt_together(mine)[order])
    assert torch.equal(dealt_out(dealt_together(shuffled)[order.argsort()]), mine)
    own = torch.full((3,), float(rank))
    copy_from_first_rank(own)
    Path(folder, str(rank)).write_text(f"{order.tolist()} {own.tolist()}")
    dist.destroy_process_group()


@pytest.mark.ddp
@pytest.mark.slow
def test_ranks_put_together_what_was_dealt_out_and_share_one_order(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_rank, (3, port, str(tmp_path)), nprocs=3)  # type: ignore[attr-defined, no-untyped-call]
    torch.manual_seed(0)
    expected = f"{torch.randperm(6).tolist()} [0.0, 0.0, 0.0]"
    assert [(tmp_path / str(rank)).read_text() for rank in range(3)] == [expected] * 3
