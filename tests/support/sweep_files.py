"""Definitions of sweeps."""

from pathlib import Path
from typing import Any

import yaml

from lightning_emseg.sweeps.definition import Sweep, read


def write_sweep(folder: Path, **content: Any) -> Path:
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def grid_of(folder: Path, **more: Any) -> Sweep:
    """Two parameters of two values each."""
    parameters = {"a": {"values": [1, 2]}, "b.c": {"values": ["x", "y"]}}
    return read(write_sweep(folder, method="grid", parameters=parameters, **more))
