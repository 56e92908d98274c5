"""Imports run one way, so that each part can be read, tested and replaced without what lies above it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

LEAVES = ("networks", "losses", "metrics", "attribution", "inference", "curation", "features", "targets")
"""Parts of ``lightning_emseg`` that know nothing of Lightning's modules, callbacks and command lines."""
COMPOSITION = tuple(
    f"lightning_emseg.{name}" for name in ("cli", "trainer_cli", "class_lookup", "__main__", "commands")
)
"""The only modules that put data and training together."""
SHARED = tuple(f"data_modules.{name}" for name in ("grid", "batch", "store", "tile_set", "errors", "lazy_exports"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, module: str, is_package: bool) -> Iterator[str]:
    """Full names of what a module imports anywhere, also inside functions and for type checking only."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [base])])
            # ``from package import module`` names the module only with its last part.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def modules(package: str) -> list[tuple[str, list[str]]]:
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        name = name_of(path)
        found.append((name, list(imported(path.read_text(), name, path.name == "__init__.py"))))
    assert found, f"no modules below {package}"
    return found


def violations(package: str, *forbidden: str, exempt: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, names in modules(package)
        if not within(module, *exempt)
        for name in names
        if within(name, *forbidden)
    ]


def test_data_never_imports_training() -> None:
    assert violations("data_modules", "lightning_emseg") == []


def test_training_sees_only_the_shared_data_modules() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in modules("lightning_emseg")
        if not within(module, *COMPOSITION)
        for name in names
        if within(name, "data_modules") and not within(name, *SHARED)
    ]
    assert wrong == []


@pytest.mark.parametrize("part", LEAVES)
def test_leaves_know_nothing_above_them(part: str) -> None:
    if not (ROOT / "lightning_emseg" / part).is_dir():
        pytest.skip(f"there is no lightning_emseg/{part} yet")
    above = [f"lightning_emseg.{name}" for name in ("modules", "callbacks", "commands", "cli", "report")]
    assert violations(f"lightning_emseg/{part}", *above) == []


@pytest.mark.parametrize("part", ["modules", "callbacks", "report"])
def test_nothing_imports_the_command_lines(part: str) -> None:
    assert violations(f"lightning_emseg/{part}", *COMPOSITION) == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import data_modules.base as b", ["data_modules.base"]),
        ("from data_modules import base, grid", ["data_modules.base", "data_modules.grid"]),
        ("def f():\n    from data_modules.base import Mosaic", ["data_modules.base.Mosaic"]),
        ("from . import cli", ["lightning_emseg.modules.cli"]),
        ("from ..cli import main", ["lightning_emseg.cli.main"]),
    ],
)
def test_the_parser_sees_every_kind_of_import(source: str, names: list[str]) -> None:
    assert list(imported(source, "lightning_emseg.modules.unet", is_package=False)) == names
