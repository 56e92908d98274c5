"""The command line in processes of their own that need no imports: forked off one that has them all."""

import multiprocessing
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch

from lightning_emseg import cli


def _main(words: list[str], environment: Mapping[str, str], log: Path | None) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    if log is not None:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
    cli.main(words)


def start(
    words: Sequence[str], environment: Mapping[str, str] | None = None, log: Path | None = None
) -> ForkServerProcess:
    """Begin ``lightning WORDS``; its exit status is that of the command.

    Args:
        words: Arguments of ``lightning``.
        environment: What is added to this process's.
        log: Where its output goes, instead of to this process's.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning_emseg.trainer_cli"])
    process = context.Process(target=_main, args=(list(words), dict(environment or {}), log))
    process.start()
    return process


def run(words: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Exit status of ``lightning WORDS``; fails the test if it hangs."""
    process = start(words, environment)
    process.join(240)
    if process.exitcode is None:
        process.kill()
        raise AssertionError("hangs")
    return process.exitcode


@dataclass(frozen=True)
class Ended:
    """How ranks have ended, in their order.

    Attributes:
        statuses: Exit status, negative for a signal.
        said: All that each has printed.
        at_s: When, on the monotonic clock.
    """

    statuses: list[int]
    said: list[str]
    at_s: list[float]


def run_ranks(words: Sequence[str], folder: Path, place: Mapping[str, str], number: str, ranks: int) -> Ended:
    """``lightning WORDS`` as ``ranks`` processes that only the network connects; fails the test if one hangs.

    Args:
        words: Arguments of ``lightning``.
        folder: For a log of each rank.
        place: Environment of all ranks.
        number: Environment variable that tells a rank its number, ``NODE_RANK`` or ``LOCAL_RANK``.
        ranks: How many.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks), "LOCAL_RANK": "0"}
    here |= {"CUDA_VISIBLE_DEVICES": "", **place}
    logs = [folder / f"rank-{rank}.log" for rank in range(ranks)]
    processes = [start(words, {**here, number: str(rank)}, log) for rank, log in enumerate(logs)]
    ends: dict[int, float] = {}
    try:
        while len(ends) < ranks:
            for rank, each in enumerate(processes):
                if rank not in ends and each.exitcode is not None:
                    ends[rank] = time.monotonic()
            assert not ends or time.monotonic() - min(ends.values()) < 60, "one has ended, another hangs"
            time.sleep(0.05)
    finally:
        for each in processes:
            each.kill()
    return Ended(
        [each.exitcode or 0 for each in processes], [log.read_text() for log in logs], [ends[n] for n in range(ranks)]
    )
