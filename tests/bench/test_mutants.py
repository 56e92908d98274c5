"""Mutants: what their switches do, where they are made, which are chosen, and what a recorded run knows of them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.mutants import in_tree
from tests.bench.mutants.choice import choose, is_excluded, read_excluded, share
from tests.bench.mutants.in_tree.reached import Record, RecordedTest, expand
from tests.bench.mutants.sites import COSMETIC, Site, Span, list_sites, list_tree_sites
from tests.bench.mutants.trees import SWITCH, make_tree, splice

ALIKE = {"divide": True}
"""Functions of the packages whose first two arguments may be swapped."""


@pytest.fixture(autouse=True)
def _switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, SWITCH, in_tree)
    monkeypatch.delenv(in_tree.ON, raising=False)


def sites_of(text: str) -> dict[Site, Span]:
    return dict(list_sites(text, "data_modules/a.py", ALIKE))


def values_of(text: str, kind: str, call: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], list[Any]]:
    """Evaluate a call with each mutant of a kind off, and on."""
    off, on = [], []
    for number, (site, span) in enumerate(sites_of(text).items()):
        if site.kind == kind:
            namespace: dict[str, Any] = {"__name__": "a"}
            exec(compile(splice(text, span, site.mutated, number), "a.py", "exec"), namespace)
            off.append(eval(call, namespace))
            monkeypatch.setenv(in_tree.ON, str(number))
            on.append(eval(call, namespace))
            monkeypatch.delenv(in_tree.ON)
    return off, on


@pytest.mark.parametrize(
    ("kind", "body", "call", "original", "mutated"),
    [
        ("comparison", "return a < b", "f(2, 2)", False, [True]),
        ("comparison", "return 0 <= a < b", "f(0, 0)", False, [False, True]),
        ("equality", "return a == b", "f(2, 2)", True, [False]),
        ("logic", "return a and b", "f(1, 0)", 0, [1]),
        ("negation", "return not a", "f(1, 0)", False, [1]),
        ("arithmetic", "return a + b", "f(3, 2)", 5, [1]),
        ("arithmetic", "return a // b", "f(3, 2)", 1, [1.5]),
        ("extremum", "return max(a, b)", "f(3, 2)", 3, [2]),
        ("bound", "return 'abcd'[a:b]", "f(1, 3)", "bc", ["c", "b"]),
        ("constant", "return a * 7", "f(3, 2)", 21, [24, 18]),
        ("constant", "return a * -1", "f(3, 2)", -3, [0, -6]),
        ("swap", "return divide(a, b)", "f(3, 2)", 1.5, [2 / 3]),
        ("swap", "return list(range(a, b))", "f(2, 3)", [2], [[]]),
        ("axis", "return dict(axis=0)", "f(3, 2)", {"axis": 0}, [{"axis": 1}]),
        ("axis", "return dict(dim=-1)", "f(3, 2)", {"dim": -1}, [{"dim": -2}]),
    ],
)
def test_each_kind_changes_only_when_on(
    kind: str, body: str, call: str, original: object, mutated: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f'"""Text."""\n\ndef divide(a, b):\n    return a.__truediv__(b)\n\ndef f(a, b):\n    {body}\n'
    off, on = values_of(text, kind, call, monkeypatch)
    assert off == [original] * len(mutated)
    assert on == mutated


def test_lines_comments_and_wide_characters_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '''"""Größe."""

from __future__ import annotations

def f(a, b):
    return ["µ", a  # + is a comment
            + b], "×"

def line():
    import sys
    return sys._getframe().f_lineno
'''
    (site, span), *_ = [each for each in sites_of(text).items() if each[0].kind == "arithmetic"]
    changed = splice(text, span, site.mutated, 5)
    assert len(changed.splitlines()) == len(text.splitlines())
    namespace: dict[str, Any] = {}
    exec(compile(changed, "a.py", "exec"), namespace)
    assert namespace["__doc__"] == "Größe."
    assert namespace["f"](3, 2) == (["µ", 5], "×")
    assert namespace["line"]() == 11
    monkeypatch.setenv(in_tree.ON, "5")
    assert namespace["f"](3, 2) == (["µ", 1], "×")


def test_unevaluated_and_descriptive_code_is_not_chosen() -> None:
    text = '''"""Text."""
import typing
LIMIT = 1 + 2
class A:
    size: int = 3
    @property
    def f(self, a: "int" = 4, *, b=5 + 6) -> typing.Literal[7]:
        """Text."""
        c: typing.Literal[8] = a
        match b:
            case 9:
                raise ValueError(10 + 11)
        if typing.TYPE_CHECKING:
            a + 12
        assert a + 13
        warn(a + 14)
        return f"{a + 15}" + "x"
'''
    assert not sites_of(text)


@pytest.mark.parametrize(
    "expression",
    [
        "root / name",
        "'a' + b",
        "[a] * 2",
        "set(a) - b",
        "isinstance(a, b)",
        "min(a, b)",
        "f(a, a)",
        "f('a', b)",
        "f(*a)",
    ],
)
def test_crashing_and_idle_changes_are_left_out(expression: str) -> None:
    kinds = {site.kind for site in sites_of(f'"""Text."""\ndef f(a, b):\n    return {expression}\n')}
    assert not kinds & {"arithmetic", "swap"}


def test_places_have_the_name_of_their_function() -> None:
    text = '"""Text."""\nclass A:\n    def f(self, a):\n        g = lambda b: b < a\n        return a < 1, a < 1\n'
    found = [site for site in sites_of(text) if site.kind == "comparison"]
    assert {site.name for site in found} == {"A.f"}
    assert {(site.source, site.ordinal) for site in found} == {("a < 1", 0), ("a < 1", 1), ("b < a", 0)}


def made_up(rooms: int = 3, files: int = 4) -> Iterator[Site]:
    for room in range(rooms):
        for file in range(files):
            for ordinal, kind in enumerate(["constant", "swap", "bound"]):
                yield Site(f"data_modules/{room}/{file}.py", "f", "a", ordinal, kind, "b")


def test_the_choice_depends_on_the_seed_alone() -> None:
    sites = list(made_up())
    chosen = choose(sites, 6, seed=0)
    assert choose(reversed(sites), 6, seed=0) == chosen
    assert choose(sites, 6, seed=1) != chosen
    assert len({site.file for site in chosen}) == 6
    assert {site.room for site in chosen} == {"data_modules/0", "data_modules/1", "data_modules/2"}


def test_leaving_out_a_site_keeps_the_other_choices() -> None:
    sites = list(made_up())
    first, *others = choose(sites, 6, seed=0)
    again = choose([site for site in sites if site != first], 6, seed=0)
    assert again[1:] == others
    assert again[0].file == first.file


def test_shares_follow_the_number_of_files() -> None:
    assert share({"a": 9, "b": 3, "c": 1}, 7) == {"a": 4, "b": 2, "c": 1}
    assert share({"a": 2, "b": 3, "c": 1}, 9) == {"a": 2, "b": 3, "c": 1}
    assert share({"a": 2, "b": 3, "c": 1}, 2) == {"a": 1, "b": 1}


def write_tree(folder: Path, at: str = "data_modules/a.py") -> Path:
    module = folder / at
    module.parent.mkdir(parents=True)
    module.write_text('"""Text."""\n\ndef below(a, b):\n    return a < b\n\ndef least(a, b):\n    return min(a, b)\n')
    tests = folder / "tests"
    tests.mkdir()
    (tests / "test_a.py").write_text(
        "import functools\nimport pytest\nfrom data_modules.a import below, least\n\n"
        "@pytest.fixture(scope='module')\ndef made():\n    return below(2, 2)\n\n"
        "@functools.cache\ndef known():\n    return least(2, 2)\n\n"
        "def test_first(made): pass\n\ndef test_made(made): assert not made\n\n"
        "def test_known(): assert known() == 2\n\ndef test_known_again(): assert known() == 2\n"
    )
    return folder


def chosen_of(tree: Path) -> list[Site]:
    sites = list_sites((tree / "data_modules/a.py").read_text(), "data_modules/a.py", {})
    return [site for site, _ in sites if site.kind in ("comparison", "extremum")]


def run_in(tree: Path, *words: str, **environment: str) -> str:
    whole = {**os.environ, "PYTHONPATH": str(tree), **environment}
    done = subprocess.run([sys.executable, *words], cwd=tree, env=whole, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_moved_sites_are_found_and_lost_ones_reported(tmp_path: Path) -> None:
    sites = chosen_of(write_tree(tmp_path / "old"))
    missing = Site("data_modules/a.py", "gone", "a < b", 0, "comparison", "a <= b")
    moved = write_tree(tmp_path / "new", "lightning_emseg/b/c.py")
    assert make_tree(moved, tmp_path / "out", [*sites, missing]) == [missing]
    rows = json.loads((tmp_path / "out" / SWITCH / "mutants.json").read_text())
    assert [(row["file"], row["line"]) for row in rows] == [
        ("lightning_emseg/b/c.py", 4),
        ("lightning_emseg/b/c.py", 7),
        ("data_modules/a.py", None),
    ]


@pytest.mark.slow
def test_a_recorded_run_finds_reaching_and_killing_tests(tmp_path: Path) -> None:
    tree = tmp_path / "out"
    source = write_tree(tmp_path / "old")
    assert make_tree(source, tree, chosen_of(source)) == []
    log = tree / SWITCH / "log"
    plugin = ["-p", f"{SWITCH}.recorder", "-p", "no:cacheprovider"]
    run_in(tree, "-m", "pytest", *plugin, "tests", EMSEG_MUTANT_LOG=str(log))
    code = f"""
import json, time
from pathlib import Path
from {SWITCH}.killing import RESULTS, judge, read_record
RESULTS.mkdir()
record = read_record(Path({str(log)!r}))
mutants = json.loads(Path("{SWITCH}/mutants.json").read_text())
print(json.dumps([
    {{test.name.split("::")[1]: sorted(test.reached) for test in record.tests}},
    [judge(mutant, record, time.monotonic() + 100) for mutant in mutants],
]))
"""
    reached, results = json.loads(run_in(tree, "-c", code).splitlines()[-1])
    # Through a fixture of the module and through a cache, both of which the first test has filled.
    assert reached == {"test_first": [0], "test_made": [0], "test_known": [1], "test_known_again": [1]}
    assert [result["outcome"] for result in results] == ["killed", "survived"]
    assert results[0]["by"] == "tests/test_a.py::test_made"
    assert results[1]["run"] == 4


def test_quickest_tests_come_first_then_their_files() -> None:
    tests = (
        RecordedTest("a.py::quick", 0.1, True, frozenset()),
        RecordedTest("b.py::quick", 0.2, True, frozenset()),
        RecordedTest("a.py::slow", 2.0, True, frozenset({3})),
        RecordedTest("a.py::fails", 2.5, False, frozenset({3})),
        RecordedTest("c.py::slower", 3.0, True, frozenset({3})),
    )
    names = [test.name for test in Record(tests, frozenset()).list_tests_of(3)]
    assert names == ["a.py::slow", "c.py::slower", "a.py::quick"]


def test_shared_parts_reach_through_others() -> None:
    parts = {"fixture a": {"1", "fixture b"}, "fixture b": {"2", "fixture a"}}
    assert expand({"5", "fixture a"}, parts) == {1, 2, 5}


def test_every_process_sets_the_same_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = tmp_path / "flags"
    flags.write_bytes(bytes(8))
    monkeypatch.setenv(in_tree.FLAGS, str(flags))
    assert not in_tree.is_on(2)
    child = os.fork()
    if not child:
        in_tree.is_on(5)
        os._exit(0)
    os.waitpid(child, 0)
    assert list(flags.read_bytes()) == [0, 0, 1, 0, 0, 1, 0, 0]


def test_exclusions_are_places_of_this_tree() -> None:
    root = Path(__file__).parents[2]
    assert all((root / path).exists() for path in COSMETIC)
    excluded = read_excluded()
    assert sum(is_excluded(site, excluded) for site in list_tree_sites(root)) == len(excluded)
