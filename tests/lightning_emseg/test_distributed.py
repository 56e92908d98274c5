"""Ranks tell each other results, and mistakes."""

import os
import socket
from pathlib import Path

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from data_modules.errors import UserError
from lightning_emseg.distributed import from_all_ranks, from_first_rank, shared_out, wait_for_all


def test_one_process_needs_nobody() -> None:
    assert from_first_rank(lambda: 7) == 7
    assert from_all_ranks(lambda: 7) == [7]
    assert shared_out(str, [3, 4]) == ["3", "4"]
    wait_for_all()
    with pytest.raises(UserError, match="mine"):
        from_all_ranks(_mistake)


def _mistake() -> int:
    raise UserError("mine")


def _defect() -> int:
    raise KeyError("lost")


def _rank(rank: int, world: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    seen = [
        str(from_first_rank(lambda: {"rank": dist.get_rank()})),
        str(from_all_ranks(lambda: f"r{dist.get_rank()}")),
        _what_happens(lambda: from_first_rank(_mistake)),
        _what_happens(lambda: from_all_ranks(_mistake if rank == 1 else dist.get_rank)),
        _what_happens(lambda: from_all_ranks(_defect if rank == 2 else dist.get_rank)),
        str(shared_out(lambda item: f"{item} by {dist.get_rank()}", "abcde")),
    ]
    Path(folder, str(rank)).write_text("\n".join(seen))
    dist.destroy_process_group()


def _what_happens(action: object) -> str:
    try:
        return str(action())  # type: ignore[operator]
    except Exception as error:
        return f"{type(error).__name__} {error}"


@pytest.mark.ddp
@pytest.mark.slow
def test_ranks_agree_on_results_and_all_stop_at_a_mistake_of_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_rank, (3, port, str(tmp_path)), nprocs=3)  # type: ignore[attr-defined, no-untyped-call]
    for rank in range(3):
        first, every, mistake, one, defect, shared = (tmp_path / str(rank)).read_text().splitlines()
        assert first == "{'rank': 0}"
        assert every == "['r0', 'r1', 'r2']"
        assert mistake == one == "UserError mine"
        # Whoever has the defect shows it as it is, with its traceback.
        assert defect == ("KeyError 'lost'" if rank == 2 else "RuntimeError rank 2: KeyError: 'lost'")
        assert shared == "['a by 0', 'b by 1', 'c by 2', 'd by 0', 'e by 1']"
