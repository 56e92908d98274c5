"""Tests in forks of a process that has imported everything once."""

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from . import ON
from .reached import RecordedTest

PATIENCE_S = 120.0
"""Seconds after which a test hangs, beside ten times what it took when recorded."""
MEMORY = 8 << 30
"""Bytes of a process; a mutant must not exhaust the machine."""
_STORAGE = "HYPOTHESIS_STORAGE_DIRECTORY"


@dataclass(frozen=True)
class Outcome:
    """End of some tests.

    Attributes:
        killer: First test that failed, crashed or hung; none if all passed.
        how: Its message.
        finished: Tests that ended.
        is_late: Whether the time was up before all had ended.
    """

    killer: str | None = None
    how: str = ""
    finished: int = 0
    is_late: bool = False


class _Reporter:
    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def _write(self, **fields: object) -> None:
        os.write(self._pipe, json.dumps(fields).encode() + b"\n")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write(started=nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._write(finished=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._write(failed=report.nodeid, how=_message_of(report))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write(failed=report.nodeid, how=_message_of(report))


def _message_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash else str(report.longrepr)).strip().splitlines() or [""]
    return str(lines[0 if crash else -1])[:160]


def run_tests(tests: Sequence[RecordedTest], number: int | None, scratch: Path, log: Path, end: float) -> Outcome:
    """Run tests in a fork until the first fails.

    Args:
        tests: Tests in the order of the run.
        number: Mutant that is on; none for the unchanged code.
        scratch: Folder for temporary files, emptied before and after.
        log: File to which the output of pytest is appended.
        end: Moment of the monotonic clock at which the fork is killed.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        os.close(reading)
        _run_here([test.name for test in tests], number, scratch, log, writing)
    os.close(writing)
    try:
        return _follow(process, reading, {test.name: test.seconds for test in tests}, scratch, end)
    finally:
        os.close(reading)
        shutil.rmtree(scratch, ignore_errors=True)


def _run_here(names: list[str], number: int | None, scratch: Path, log: Path, pipe: int) -> None:
    status = 70
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ[_STORAGE] = str(scratch / "hypothesis")
        os.environ.pop(ON, None)
        if number is not None:
            os.environ[ON] = str(number)
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"]
        status = pytest.main([*options, f"--basetemp={scratch / 'tmp'}", *names], plugins=[_Reporter(pipe)])
    finally:
        sys.stdout.flush()
        os._exit(int(status))


def _follow(process: int, pipe: int, seconds: dict[str, float], scratch: Path, end: float) -> Outcome:
    """Read what a fork reports until it ends, hangs or has no time left."""
    buffer, running, finished, ended = b"", "", 0, None
    patience = time.monotonic() + PATIENCE_S + 10 * max(seconds.values())
    try:
        while True:
            has_more = bool(select.select([pipe], [], [], 0.2)[0])
            data = os.read(pipe, 1 << 16) if has_more else b""
            *lines, buffer = (buffer + data).split(b"\n")
            for row in map(json.loads, lines):
                if "failed" in row:
                    return Outcome(row["failed"], row["how"], finished)
                running = row.get("started", "")
                finished += "finished" in row
                patience = time.monotonic() + PATIENCE_S + 10 * seconds.get(running, 0.0)
            if not data and ended is not None:
                return _judge_status(ended, running, finished)
            if ended is None:
                ended = _status_of(process)
            if time.monotonic() > end:
                return Outcome(finished=finished, is_late=True)
            if time.monotonic() > patience:
                return Outcome(running or next(iter(seconds)), "hangs", finished)
    finally:
        _end(process, scratch, ended is None)


def _judge_status(status: int, running: str, finished: int) -> Outcome:
    if status in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
        return Outcome(finished=finished)
    return Outcome(running or "collection", f"ends with status {status}", finished)


def _status_of(process: int) -> int | None:
    ended, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _end(process: int, scratch: Path, is_running: bool) -> None:
    """Kill a fork with all that it has started, in other sessions too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    if is_running:
        os.waitpid(process, 0)
    mark = f"{_STORAGE}={scratch}/".encode()
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (each / "environ").read_bytes():
                os.kill(int(each.name), signal.SIGKILL)


def import_all(modules: Sequence[str]) -> list[Any]:
    """Import what all tests need, so that forks need not."""
    import torch

    torch.set_num_threads(1)
    return [__import__(name) for name in modules]
