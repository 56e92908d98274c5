"""Imports run one way, so that each room can be read, tested and replaced without what lies above it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGES = ("data_modules", "lightning_emseg")
LEVELS: tuple[tuple[str, ...], ...] = (
    ("data_modules.errors", "data_modules.lazy_exports", "data_modules.short_names"),
    ("data_modules.batch", "data_modules.geometry", "data_modules.randomness"),
    ("data_modules.store",),
    ("data_modules.tile_set",),
    ("data_modules.images",),
    (
        "data_modules.augment",
        "data_modules.convert",
        "data_modules.patches",
        "data_modules.synthetic",
        "data_modules.tiling",
    ),
    ("data_modules.mosaic",),
    ("data_modules.cremi", "data_modules.isbi2012", "data_modules.synthetic_mosaics", "data_modules.urisc"),
    ("data_modules.tiles",),
    ("data_modules.labelled_tiles",),
    ("lightning_emseg.core",),
    ("lightning_emseg.losses", "lightning_emseg.metrics", "lightning_emseg.networks"),
    ("lightning_emseg.inference",),
    ("lightning_emseg.evaluation",),
    ("lightning_emseg.attribution", "lightning_emseg.curation", "lightning_emseg.features"),
    ("lightning_emseg.modules",),
    ("lightning_emseg.results",),
    ("lightning_emseg.callbacks",),
    ("lightning_emseg.trainer_cli",),
    ("lightning_emseg.cli",),
    ("lightning_emseg.__main__", "lightning_emseg.commands"),
)
"""Rooms from the bottom to the top. A room imports from lower levels only, never from its own level."""
SEEN_BY_TRAINING = tuple(
    f"data_modules.{name}"
    for name in (
        "batch",
        "errors",
        "geometry",
        "images",
        "lazy_exports",
        "randomness",
        "short_names",
        "store",
        "tile_set",
    )
)
"""Rooms of ``data_modules`` that training code may import. Commands put data and training together."""
COMPOSITION = tuple(f"lightning_emseg.{name}" for name in ("__main__", "cli", "commands", "trainer_cli"))
HEIGHT = {room: height for height, rooms in enumerate(LEVELS) for room in rooms}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def list_imports(source: str, module: str, is_package: bool) -> Iterator[str]:
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


def list_crossings() -> list[tuple[str, str]]:
    """Each import from one room into another: the importing module and the full imported name."""
    found = []
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        module = name_of(path)
        for name in list_imports(path.read_text(), module, path.name == "__init__.py"):
            crosses = name.split(".")[0] in PACKAGES and room_of(name) != room_of(module) and module not in PACKAGES
            found += [(module, name)] * crosses
    assert found
    return found


def room_imported(name: str) -> str | None:
    """Room of an imported name; ``None`` for a short export such as ``data_modules.URISC`` or ``__version__``."""
    room = room_of(name)
    return None if room.split(".")[-1][:1].isupper() or room.endswith(".__version__") else room


def test_every_room_has_its_level() -> None:
    rooms = {
        name_of(path)
        for package in PACKAGES
        for path in (ROOT / package).iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").is_file()
    }
    assert rooms == set(HEIGHT)


def test_rooms_import_lower_levels_only() -> None:
    wrong = []
    for module, name in list_crossings():
        room = room_imported(name)
        if room is not None and HEIGHT[room] >= HEIGHT[room_of(module)]:
            wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_training_sees_only_the_shared_data_rooms() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, name in list_crossings()
        if module.startswith("lightning_emseg.") and room_of(module) not in COMPOSITION
        if name.startswith("data_modules.") and room_of(name) not in SEEN_BY_TRAINING
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import data_modules.mosaic as b", ["data_modules.mosaic"]),
        ("from data_modules import mosaic, geometry", ["data_modules.mosaic", "data_modules.geometry"]),
        ("def f():\n    from data_modules.mosaic import Mosaic", ["data_modules.mosaic.Mosaic"]),
        ("from . import cli", ["lightning_emseg.modules.cli"]),
        ("from ..cli import main", ["lightning_emseg.cli.main"]),
    ],
)
def test_the_parser_sees_every_kind_of_import(source: str, names: list[str]) -> None:
    assert list(list_imports(source, "lightning_emseg.modules.unet", is_package=False)) == names
