"""What a recorded run has found: the tests that evaluate each mutated expression."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RecordedTest:
    """Recorded test.

    Attributes:
        name: Node id of pytest.
        seconds: Seconds of its three phases.
        passed: Whether none of them failed.
        reached: Numbers of the mutants whose expressions it evaluates, itself or through shared parts.
    """

    name: str
    seconds: float
    passed: bool
    reached: frozenset[int]


@dataclass(frozen=True)
class Record:
    """Recorded run.

    Attributes:
        tests: All tests, quickest first.
        imported: Mutants whose expressions are evaluated by imports, where a switch comes too late.
    """

    tests: tuple[RecordedTest, ...]
    imported: frozenset[int]

    def list_tests_of(self, number: int) -> list[RecordedTest]:
        """List the tests that reach a mutant and pass without it, then the others of their files."""
        passed = [test for test in self.tests if test.passed]
        reaching = [test for test in passed if number in test.reached]
        files = {_file_of(test) for test in reaching}
        return reaching + [test for test in passed if number not in test.reached and _file_of(test) in files]


def _file_of(test: RecordedTest) -> str:
    return test.name.split("::")[0]


def read_record(folder: Path) -> Record:
    """Read the lines of all processes that have run tests."""
    parts: dict[str, set[str]] = defaultdict(set)
    tests: dict[str, tuple[float, bool, set[str]]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for row in map(json.loads, path.read_text().splitlines()):
            if "part" in row:
                parts[row["part"]].update(row["reached"])
            else:
                tests[row["test"]] = (row["seconds"], row["passed"], set(row["reached"]))
    known = [RecordedTest(name, s, passed, expand(reached, parts)) for name, (s, passed, reached) in tests.items()]
    return Record(tuple(sorted(known, key=lambda test: test.seconds)), expand({"import"}, parts))


def expand(reached: Iterable[str], parts: Mapping[str, set[str]]) -> frozenset[int]:
    """Replace names of shared parts by the numbers that these reach, also through other parts."""
    open_names, seen = set(reached), set[str]()
    while open_names:
        name = open_names.pop()
        seen.add(name)
        open_names |= parts.get(name, set()) - seen
    return frozenset(int(name) for name in seen if name.isdigit())
