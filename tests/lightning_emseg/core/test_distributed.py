"""Ranks tell each other results and mistakes, and deal tensors out among themselves."""

from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist

from data_modules.errors import UserError
from lightning_emseg.core.distributed import (
    copy_from_first_rank,
    from_all_ranks,
    from_first_rank,
    gather_rows,
    own_rows,
    share_out,
    share_permutation,
    wait_for_all,
)
from tests.support.processes import run_group

ROWS = torch.arange(12.0).view(6, 2)


def _mistake() -> int:
    raise UserError("mine")


def _defect() -> int:
    raise KeyError("lost")


def test_one_process_needs_nobody() -> None:
    assert from_first_rank(lambda: 7) == 7
    assert from_all_ranks(lambda: 7) == [7]
    assert share_out(str, [3, 4]) == ["3", "4"]
    wait_for_all()
    with pytest.raises(UserError, match="mine"):
        from_all_ranks(_mistake)


def test_one_process_has_all_rows_in_order() -> None:
    rows = ROWS.clone().requires_grad_()
    assert torch.equal(gather_rows(rows), ROWS)
    assert not gather_rows(rows).requires_grad
    assert torch.equal(own_rows(ROWS), ROWS)
    assert sorted(share_permutation(4, torch.device("cpu")).tolist()) == [0, 1, 2, 3]
    copy_from_first_rank(rows)


def _outcome_of(action: Callable[[], object]) -> str:
    try:
        return str(action())
    except Exception as error:
        return f"{type(error).__name__} {error}"


def _exchange_results(rank: int) -> list[str]:
    return [
        str(from_first_rank(lambda: {"rank": dist.get_rank()})),
        str(from_all_ranks(lambda: f"r{dist.get_rank()}")),
        _outcome_of(lambda: from_first_rank(_mistake)),
        _outcome_of(lambda: from_all_ranks(_mistake if rank == 1 else dist.get_rank)),
        _outcome_of(lambda: from_all_ranks(_defect if rank == 2 else dist.get_rank)),
        str(share_out(lambda item: f"{item} by {dist.get_rank()}", "abcde")),
    ]


@pytest.mark.ddp
def test_ranks_agree_on_results_and_mistakes() -> None:
    for rank, said in enumerate(run_group(_exchange_results, 3)):
        first, every, mistake, one, defect, shared = said
        assert first == "{'rank': 0}"
        assert every == "['r0', 'r1', 'r2']"
        assert mistake == one == "UserError mine"
        # Whoever has the defect shows it as it is, with its traceback.
        assert defect == ("KeyError 'lost'" if rank == 2 else "RuntimeError rank 2: KeyError: 'lost'")
        assert shared == "['a by 0', 'b by 1', 'c by 2', 'd by 0', 'e by 1']"


def _deal_rows(rank: int) -> tuple[list[int], list[float]]:
    mine = own_rows(ROWS)
    assert torch.equal(mine, ROWS[rank :: dist.get_world_size()])
    assert torch.equal(gather_rows(mine), ROWS)
    torch.manual_seed(rank)
    order = share_permutation(6, torch.device("cpu"))
    assert sorted(order.tolist()) == list(range(6))
    # There and back, whoever computes a row.
    shuffled = own_rows(gather_rows(mine)[order])
    assert torch.equal(own_rows(gather_rows(shuffled)[order.argsort()]), mine)
    own = torch.full((3,), float(rank))
    copy_from_first_rank(own)
    return order.tolist(), own.tolist()


@pytest.mark.ddp
def test_ranks_put_dealt_rows_together_in_one_order() -> None:
    torch.manual_seed(0)
    expected = torch.randperm(6).tolist(), [0.0, 0.0, 0.0]
    assert run_group(_deal_rows, 3) == [expected] * 3
