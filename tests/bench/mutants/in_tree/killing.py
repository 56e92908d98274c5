"""Every mutant against the tests that reach it: ``python -m emseg_mutants.killing`` in a mutated tree."""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .forks import Outcome, import_all, run_tests
from .reached import Record, RecordedTest, read_record

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PRELOADED = ("lightning_emseg.modules.mixin", "pytorch_lightning.cli", "kornia", "hypothesis")
BATCHES = (8, 64)
"""Tests of the first forks; most mutants are killed before all files of tests are collected."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge all mutants that have no result yet."""
    parser = argparse.ArgumentParser(prog="emseg_mutants.killing")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds of tests of one mutant")
    parser.add_argument("--numbers", type=int, nargs="*", help="mutants to judge, again if they have a result")
    options = parser.parse_args(arguments)
    RESULTS.mkdir(exist_ok=True)
    mutants = json.loads((HERE / "mutants.json").read_text())
    record = read_record(HERE / "log")
    assert record.tests, "record a run of the tests first"
    import_all(PRELOADED)
    running: set[int] = set()
    for mutant in mutants:
        number = mutant["number"]
        if number not in options.numbers if options.numbers else _path_of(number).exists():
            continue
        if len(running) == options.workers:
            running.remove(os.wait()[0])
        sys.stdout.flush()
        process = os.fork()
        if process:
            running.add(process)
            continue
        _judge_in_fork(mutant, record, options.limit)
    while running:
        running.remove(os.wait()[0])


def _path_of(number: int) -> Path:
    return RESULTS / f"{number:02}.json"


def _judge_in_fork(mutant: Mapping[str, Any], record: Record, limit: float) -> None:
    status = 1
    try:
        begin = time.monotonic()
        result = judge(mutant, record, begin + limit) | {"seconds": round(time.monotonic() - begin, 1)}
        _path_of(mutant["number"]).write_text(json.dumps({**mutant, **result}, indent=1) + "\n")
        print(
            f"{mutant['number']:2} {result['outcome']:10} {result['seconds']:6.1f} s {result.get('by', '')}", flush=True
        )
        status = 0
    finally:
        os._exit(status)


def judge(mutant: Mapping[str, Any], record: Record, end: float) -> dict[str, Any]:
    """Run the tests that reach a mutant, quickest first, then the others of their files, until one kills it.

    A test that fails without the mutant too, alone in a fork, kills nothing.
    """
    number = mutant["number"]
    if mutant["line"] is None:
        return {"outcome": "absent"}
    tests = record.list_tests_of(number)
    counts = {"reaching": sum(number in test.reached for test in tests), "at_import": number in record.imported}
    if not tests:
        return {"outcome": "unreached", **counts}
    discarded: list[str] = []
    with tempfile.TemporaryDirectory(prefix="emseg-mutant-") as folder:
        scratch, log = Path(folder) / "tests", _path_of(number).with_suffix(".txt")
        log.unlink(missing_ok=True)
        while tests:
            batch = tests[: BATCHES[0] if not counts.get("run") else BATCHES[1]]
            outcome = run_tests(batch, number, scratch, log, end)
            counts["run"] = counts.get("run", 0) + outcome.finished
            if outcome.is_late:
                return {"outcome": "unfinished", **counts}
            if outcome.killer is None:
                tests = tests[len(batch) :]
                continue
            suspects = _find(batch, outcome)
            if run_tests(suspects, None, scratch, log, time.monotonic() + 600).killer is None:
                return {"outcome": "killed", "by": outcome.killer, "how": outcome.how, **counts}
            discarded += [test.name for test in suspects]
            tests = [test for test in tests if test not in suspects]
    return {"outcome": "survived", "discarded": discarded, **counts}


def _find(batch: Sequence[RecordedTest], outcome: Outcome) -> list[RecordedTest]:
    """Return the test that failed, or all tests of a file that could not be collected."""
    killer = outcome.killer or ""
    return [test for test in batch if test.name == killer or test.name.startswith(f"{killer}::")] or list(batch)


if __name__ == "__main__":
    main()
