"""Processes for commands and ranks, forked off one server that a pytest process starts once, with all imports."""

import math
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from lightning_emseg import cli
from tests.support import ROOT

LIMIT_S = 240.0
"""Longest time that a command may take."""
# Lightning imports s3fs at the first checkpoint wherever it is installed; the others are imported by a first fit.
PRELOADED = (
    *("lightning_emseg.trainer_cli", "s3fs", "tests.support.class_runs", "tests.support.interrupted"),
    *("tests.support.failing_parts", "tests.support.queue_checks"),
)


def start(
    target: Callable[..., object],
    arguments: Sequence[Any],
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    folder: Path | None = None,
) -> ForkServerProcess:
    """Start a process that calls ``target``; it shares no state with other processes and may be killed.

    What a program does at its exit (``atexit``), as W&B's last upload, is left out.

    Args:
        target: Function of a module.
        arguments: Arguments of ``target``.
        environment: Variables to set besides those of the server.
        log: File for the output, which otherwise goes to that of this process.
        folder: Working directory.
    """
    context = multiprocessing.get_context("forkserver")
    # Without effect once the server runs, which then has at least what loader processes need.
    context.set_forkserver_preload(list(PRELOADED))
    process = context.Process(target=_call, args=(target, tuple(arguments), dict(environment or {}), log, folder))
    process.start()
    return process


def start_lightning(
    words: Sequence[str], environment: Mapping[str, str] | None = None, log: Path | None = None
) -> ForkServerProcess:
    """Start ``lightning WORDS``; see :func:`start`."""
    return start(cli.main, (list(words),), environment, log)


def run_lightning(words: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Exit status of ``lightning WORDS``, negative for a signal."""
    (status,) = _wait_for([start_lightning(words, environment)], LIMIT_S).statuses
    return status


def run_lightning_of_user(
    words: Sequence[str], ranks: int, folder: Path, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command as a user starts it in ``folder``: one process, which starts those of the other ranks."""
    command = [sys.executable, "-m", "lightning_emseg", *words, *_over(ranks)]
    # Experiments may name the modules of `tests.support`.
    place = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT), **(environment or {})}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, env={**os.environ, **place}, cwd=folder
    )


def words_of(folder: Path, verb: str, out: str, *more: str, experiment: str = "e.yaml") -> list[str]:
    """Words of a command on ``folder/experiment`` whose results go to ``folder/out``."""
    return [verb, "--config", str(folder / experiment), "--trainer.default_root_dir", str(folder / out), *more]


def run_ranks(commands: Sequence[Sequence[str]], ranks: int, folder: Path) -> None:
    """Run commands one after the other on ranks that meet as under ``torchrun``; in this process if there is one.

    Output goes to ``folder/rank<r>-of-<n>.log``. Files are of mode 644 where rank 0 has made them, and of 640 where
    others have.
    """
    if ranks == 1:
        for command in commands:
            cli.main([*command, "--trainer.devices", "1"])
        return
    logs = [folder / f"rank{rank}-of-{ranks}.log" for rank in range(ranks)]
    meeting = _meeting(ranks)
    of_ranks = [[*command, *_over(ranks)] for command in commands]
    processes = [
        start(_run_in_turn, (of_ranks, rank), {**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)}, log, folder)
        for rank, log in enumerate(logs)
    ]
    ended = _wait_for(processes, LIMIT_S * len(commands), grace_s=0.0, logs=logs)
    assert ended.statuses == [0] * ranks, "\n".join(said[-3000:] for said in ended.said)


@dataclass(frozen=True)
class Ended:
    """How processes have ended, in their order.

    Attributes:
        statuses: Exit statuses, negative for signals.
        said: Contents of the logs.
        at_s: Times on the monotonic clock.
    """

    statuses: list[int]
    said: list[str]
    at_s: list[float]


def run_nodes(words: Sequence[str], folder: Path, place: Mapping[str, str], number: str, ranks: int) -> Ended:
    """``lightning WORDS`` as ``ranks`` processes that only the network connects; fails the test if one hangs.

    Args:
        words: Arguments of ``lightning``.
        folder: Working directory, in which each rank has a log.
        place: Environment variables of all ranks.
        number: Environment variable that tells a rank its number, ``NODE_RANK`` or ``LOCAL_RANK``.
        ranks: Number of processes.
    """
    here = {**_meeting(ranks), "LOCAL_RANK": "0", **place}
    logs = [folder / f"rank-{rank}.log" for rank in range(ranks)]
    processes = [
        start(cli.main, (list(words),), {**here, number: str(rank)}, log, folder) for rank, log in enumerate(logs)
    ]
    return _wait_for(processes, LIMIT_S, grace_s=60.0, logs=logs)


def run_group(target: Callable[[int], Any], ranks: int) -> list[Any]:
    """Results of ``target(rank)`` of all members of a process group (gloo), in the order of their ranks."""
    results = multiprocessing.get_context("forkserver").SimpleQueue()
    meeting = _meeting(ranks)
    processes = [start(_join_group, (target, rank, ranks, results), meeting) for rank in range(ranks)]
    assert _wait_for(processes, LIMIT_S, grace_s=0.0).statuses == [0] * ranks
    return [result for _, result in sorted(results.get() for _ in range(ranks))]


def _call(
    target: Callable[..., object],
    arguments: tuple[Any, ...],
    environment: Mapping[str, str],
    log: Path | None,
    folder: Path | None,
) -> None:
    os.environ.update(environment)
    if folder is not None:
        os.chdir(folder)
    sys.argv = ["lightning"]
    torch.set_num_threads(1)
    if log is not None:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
    target(*arguments)


def _run_in_turn(commands: Sequence[Sequence[str]], rank: int) -> None:
    os.umask(0o027 if rank else 0o022)
    for command in commands:
        cli.main(command)


def _join_group(target: Callable[[int], Any], rank: int, ranks: int, results: Any) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    results.put((rank, target(rank)))
    dist.destroy_process_group()


def _wait_for(
    processes: Sequence[ForkServerProcess], limit_s: float, grace_s: float = math.inf, logs: Sequence[Path] = ()
) -> Ended:
    """Wait for all processes; kill those that are left ``grace_s`` after one has failed, as they may wait for it."""
    waiting: dict[Any, int] = {process.sentinel: number for number, process in enumerate(processes)}
    at_s = [math.inf] * len(processes)
    end = time.monotonic() + limit_s
    try:
        while ready := wait(list(waiting), max(0.0, end - time.monotonic())) if waiting else []:
            for sentinel in ready:
                number = waiting.pop(sentinel)
                processes[number].join()
                at_s[number] = time.monotonic()
                if processes[number].exitcode:
                    end = min(end, at_s[number] + grace_s)
    finally:
        for process in processes:
            process.kill()
            process.join()
    said = [log.read_text() for log in logs]
    assert not waiting or grace_s == 0, "\n".join([f"processes {sorted(waiting.values())} hang", *said])
    return Ended([process.exitcode or 0 for process in processes], said, at_s)


def _over(ranks: int) -> list[str]:
    return ["--trainer.devices", str(ranks), "--trainer.strategy", "ddp"]


def _meeting(ranks: int) -> dict[str, str]:
    """Environment in which ranks find each other, without accelerators."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    return {**place, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
