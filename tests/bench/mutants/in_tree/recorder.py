"""Plugin of pytest that records which tests evaluate which mutated expression.

A run with ``-p emseg_mutants.recorder`` writes lines of JSON into the folder that ``EMSEG_MUTANT_LOG`` names. What a
fixture of a module or of the session evaluates, or a cached function of the tests, counts for every test that uses it:
each is alone when it has to kill the mutant. Other processes that a test starts are seen too, even those of a pool that
an earlier test has started.
"""

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from . import FLAGS, open_flags

LOG = "EMSEG_MUTANT_LOG"
SIZE = 1024
"""Bytes of the file of flags; more than there are mutants."""
_CACHED = ("data_modules", "lightning_emseg")
Reached = set[int | str]


class Recorder:
    """Flags of the expressions evaluated since a frame was opened; frames of shared parts lie inside those of tests."""

    def __init__(self, folder: Path, worker: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        flags = folder / f"{worker}.flags"
        flags.write_bytes(bytes(SIZE))
        os.environ[FLAGS] = str(flags)
        self._flags = open_flags(str(flags))
        self._lines = (folder / f"{worker}.jsonl").open("w")
        self._stack: list[Reached] = [set()]
        self.seconds = 0.0
        self.has_passed = True

    def _take(self) -> None:
        found = self._flags[:]
        if any(found):
            self._flags[:] = bytes(SIZE)
            self._stack[-1].update(number for number, flag in enumerate(found) if flag)

    @contextmanager
    def frame(self) -> Iterator[Reached]:
        """Collect what is reached inside: numbers of mutants and names of shared parts."""
        self._take()
        self._stack.append(set())
        try:
            yield self._stack[-1]
        finally:
            self._take()
            self._stack.pop()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Collect for a part that several tests share; the test of this moment uses it."""
        with self.frame() as reached:
            yield
        self.write(part=name, reached=sorted(map(str, reached)))
        self._stack[-1].add(name)

    def write(self, **fields: object) -> None:
        """Write one line, at once: a process that crashes loses none."""
        print(json.dumps(fields), file=self._lines, flush=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Write what one test has reached."""
        _clear_caches()
        self.seconds, self.has_passed = 0.0, True
        with self.frame() as reached:
            try:
                return (yield)
            finally:
                self._take()
                names = {_name_of(each) for each in _shared_fixtures(item)}
                fields = {"seconds": round(self.seconds, 3), "passed": self.has_passed}
                self.write(test=item.nodeid, reached=sorted(map(str, reached | names)), **fields)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[Any]:
        """Keep apart what a fixture of several tests reaches."""
        if fixturedef.scope == "function":
            return (yield)
        with self.part(_name_of(fixturedef)):
            return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up the seconds of a test's phases."""
        self.seconds += report.duration
        self.has_passed &= not report.failed

    def pytest_collection_finish(self) -> None:
        """Write what imports have reached."""
        self._take()
        self.write(part="import", reached=sorted(map(str, self._stack[0])))


def _shared_fixtures(item: pytest.Item) -> Iterator[pytest.FixtureDef[Any]]:
    info = getattr(item, "_fixtureinfo", None)
    for definitions in info.name2fixturedefs.values() if info else ():
        yield from (each for each in definitions if each.scope != "function")


def _name_of(fixture: pytest.FixtureDef[Any]) -> str:
    return f"fixture {fixture.baseid}::{fixture.argname}"


def _clear_caches() -> None:
    """Clear the packages' caches: a hit would hide what is evaluated."""
    for name, module in list(sys.modules.items()):
        if name.startswith(_CACHED):
            for value in list(vars(module).values()):
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()


def _watch_caches(recorder: Recorder) -> None:
    """Let cached functions of the tests count for every caller."""
    original, folder = functools.cache, str(Path.cwd() / "tests")

    def cache(function: Callable[..., Any]) -> Any:
        cached = original(function)
        code = getattr(function, "__code__", None)
        if code is None or not code.co_filename.startswith(folder):
            return cached
        name = f"cache {code.co_filename}::{function.__qualname__}"

        def call(*arguments: Any, **keywords: Any) -> Any:
            with recorder.part(name):
                return cached(*arguments, **keywords)

        functools.update_wrapper(call, function)
        vars(call)["cache_clear"] = cached.cache_clear
        return call

    vars(functools)["cache"] = cache


def pytest_configure(config: pytest.Config) -> None:
    """Start recording in every process that runs tests."""
    worker = getattr(config, "workerinput", {}).get("workerid", "main")
    recorder = Recorder(Path(os.environ[LOG]).absolute(), worker)
    _watch_caches(recorder)
    config.pluginmanager.register(recorder, "mutant-recorder")
