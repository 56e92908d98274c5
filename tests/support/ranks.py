"""Commands under one or several ranks of this machine."""

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from lightning_emseg import cli
from tests.support import ROOT

_LIMIT_S = 240.0
"""Of one command."""


def lightning(folder: Path, verb: str, out: str, ranks: int, *more: str) -> None:
    """Run ``folder/e.yaml`` with its results in ``folder/out``; in this process if ``ranks`` is 1."""
    run([words(folder, verb, out, *more)], ranks, folder)


def words(folder: Path, verb: str, out: str, *more: str, experiment: str = "e.yaml") -> list[str]:
    """A command of one rank; :func:`run` adds what others need."""
    return [verb, "--config", str(folder / experiment), "--trainer.default_root_dir", str(folder / out), *more]


def run(commands: Sequence[Sequence[str]], ranks: int, folder: Path) -> None:
    """Run commands one after the other; in this process if ``ranks`` is 1.

    Several ranks are forked off a process that has imported everything once, as a start takes much longer than what is
    tested; they meet as under ``torchrun``. What they print goes to ``folder/rank<r>-of-<n>.log``. Files are of mode
    644 where rank 0 has made them, and of 640 where others have.
    """
    if ranks == 1:
        for command in commands:
            cli.main([*command, "--trainer.devices", "1"])
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning_emseg.trainer_cli", "tests.support.tiny"])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(ranks)}
    logs = [folder / f"rank{rank}-of-{ranks}.log" for rank in range(ranks)]
    processes = [
        context.Process(target=_rank, args=(rank, log, folder, meeting, [[*each, *_over(ranks)] for each in commands]))
        for rank, log in enumerate(logs)
    ]
    for process in processes:
        process.start()
    try:
        end = time.monotonic() + _LIMIT_S * len(commands)
        # One that has failed leaves the others waiting for it.
        while any(process.exitcode is None for process in processes) and not any(p.exitcode for p in processes):
            assert time.monotonic() < end, "hangs:\n" + _ends_of(logs)
            time.sleep(0.05)
        assert [process.exitcode for process in processes] == [0] * ranks, _ends_of(logs)
    finally:
        for process in processes:
            process.kill()
            process.join()


def started(command: Sequence[str], ranks: int, folder: Path) -> None:
    """Run a command as a user starts it: one process, which starts those of the other ranks."""
    python = [sys.executable, "-m", "lightning_emseg", *command, *_over(ranks)]
    # Experiments may name the modules of `tiny`.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(python, capture_output=True, text=True, timeout=_LIMIT_S, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]


def _over(ranks: int) -> list[str]:
    return ["--trainer.devices", str(ranks), "--trainer.strategy", "ddp"]


def _rank(rank: int, log: Path, folder: Path, meeting: Mapping[str, str], commands: Sequence[Sequence[str]]) -> None:
    """What one of the processes does."""
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(meeting, RANK=str(rank), LOCAL_RANK=str(rank), OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    os.chdir(folder)
    os.umask(0o027 if rank else 0o022)
    sys.argv = ["lightning"]
    torch.set_num_threads(1)
    for command in commands:
        cli.main(command)


def _ends_of(logs: Sequence[Path]) -> str:
    return "\n".join(f"{log.name}: {log.read_text()[-3000:]}" for log in logs)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
