"""Volumes whose blobs are clefts: two to train on and one without annotation."""

from pathlib import Path
from typing import Any

from tests.support import tiny

SHAPE = (20, 48, 40)
SPLIT: dict[str, Any] = {"train": 12, "val": 8}


def make_store(path: Path) -> Path:
    for number, key in enumerate(("train/sample-A", "train/sample-B", "test/sample-C")):
        image, mask = tiny.content(SHAPE, number)
        tiny.write_sample(path, key, image, None if key.startswith("test") else mask, "cleft")
    return path
