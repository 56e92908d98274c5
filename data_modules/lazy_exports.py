"""Exports of a package that are imported when they are first asked for (PEP 562)."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, *tables: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make the ``__getattr__``, ``__dir__`` and ``__all__`` of a package that exports classes of its modules.

    Args:
        package: Name of the package.
        tables: Full names of modules by the name of the class that each exports.
    """
    module_of = {name: module for table in tables for name, module in table.items()}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(module_of[name]), name)

    def list_names() -> list[str]:
        return sorted({*vars(import_module(package)), *module_of})

    return get, list_names, sorted(module_of)
