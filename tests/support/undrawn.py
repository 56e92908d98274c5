"""Figures that are saved without being drawn, which takes longer than most of what writes them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from matplotlib.figure import Figure


@contextmanager
def undrawn() -> Iterator[None]:
    """Save empty files instead of figures; for tests that look at tables alone."""

    def touch(_figure: Figure, file: str | Path, **_options: Any) -> None:
        Path(file).touch()

    with mock.patch.object(Figure, "savefig", touch):
        yield
