"""Rules of the test tree: where a test lies, what it is called, and what it leaves alone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

FILES = sorted((ROOT / "tests").rglob("test_*.py"))
PACKAGES = ("data_modules", "lightning_emseg")
LONGEST_NAME = 8


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def is_mirrored(path: Path) -> bool:
    """Whether the name of a file is that of a module or package beside it in the sources, an aspect aside."""
    place = ROOT / path.relative_to(ROOT / "tests").parent
    words = path.stem.removeprefix("test_").split("_")
    names = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
    return any((place / f"{name}.py").is_file() or (place / name).is_dir() for name in names)


def test_files_mirror_the_packages() -> None:
    wrong = [path for path in FILES if path.relative_to(ROOT / "tests").parts[0] in PACKAGES and not is_mirrored(path)]
    assert wrong == []


def test_names_have_at_most_eight_words() -> None:
    names = re.compile(r"^ *def test_(\w+)\(", re.MULTILINE)
    assert [
        f"{path.name}: {name}"
        for path in FILES
        for name in names.findall(path.read_text())
        if len(name.split("_")) > LONGEST_NAME
    ] == []


@pytest.mark.parametrize("name", ["setattr", "delattr"])
def test_private_names_are_not_patched(name: str) -> None:
    private = re.compile(r"['\".]_[a-z]")
    assert [
        f"{path.name}:{call.lineno}"
        for path in FILES
        for call in calls(path)
        if isinstance(call.func, ast.Attribute) and call.func.attr == name and private.search(ast.unparse(call))
    ] == []
