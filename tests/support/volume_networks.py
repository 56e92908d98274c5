"""Small networks of volumes, and data for them."""

from pathlib import Path
from typing import Any

from data_modules.mosaic import Mosaic
from tests.support import tiny

PATCH = (8, 32, 32)
SMALL: dict[str, Any] = {"patch": PATCH, "widths": (8, 8, 16, 24)}


def data_of(store: Path, **changes: Any) -> Mosaic:
    return tiny.data_of(store, patch_size=list(PATCH), overlap=0.0, **changes)
