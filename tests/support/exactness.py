"""How far the files of two runs are apart."""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

DIFFERENT = math.inf
"""Of files that differ in more than the values of numbers."""

# Times, and settings that say how many ranks there are.
_TIMES = {"seconds", "validation_share", "started"}
_OF_RANKS = {"default_root_dir", "devices", "strategy", "batch_size", "accumulate_grad_batches", "out", "ckpt_path"}
_OF_RANKS |= {"dirpath", "save_dir"}


def artefacts(folder: Path) -> dict[str, Path]:
    """Files of a run by name, but for ``environment*.json``, which is of times and versions, and earlier runs."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path for name, path in files.items() if not name.startswith(("environment", "earlier/"))}


def difference(one: Path, other: Path) -> float:
    """Largest difference of two numbers of the files, relative where they are above 1; pictures in grey levels."""
    if one.suffix == ".png":
        return _of_pictures(one, other)
    if one.suffix == ".ckpt":
        return max(_of_weights(one, other).values())
    if one.suffix == ".csv":
        return _of_values(_table(one), _table(other))
    if one.suffix == ".json":
        return _of_values(json.loads(one.read_text()), json.loads(other.read_text()), _TIMES)
    if one.suffix == ".yaml":
        return _of_values(yaml.safe_load(one.read_text()), yaml.safe_load(other.read_text()), _OF_RANKS)
    return 0.0 if one.read_bytes() == other.read_bytes() else DIFFERENT


def differences(one: Path, other: Path) -> dict[str, float]:
    """:func:`difference` of each file of two run folders, which must have the same files."""
    mine, theirs = artefacts(one), artefacts(other)
    assert set(mine) == set(theirs), set(mine) ^ set(theirs)
    return {name: difference(path, theirs[name]) for name, path in mine.items()}


def by_kind(found: Mapping[str, float]) -> dict[str, float]:
    """The largest difference of files of a kind, which are the pictures of a folder and what tells of errors."""
    kinds: dict[str, float] = {}
    for name, value in found.items():
        kind = _kind(Path(name))
        kinds[kind] = max(kinds.get(kind, 0.0), value)
    return kinds


def table(title: str, rows: Mapping[str, Iterable[float]]) -> str:
    """Markdown: a row an artefact, a column a number of ranks."""
    lines = [f"| {title} | 2 ranks | 3 ranks |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {name} | {' | '.join(map(_written, values))} |" for name, values in rows.items()])


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Of a checkpoint."""
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return found


def _of_weights(one: Path, other: Path) -> dict[str, float]:
    mine, theirs = weights(one), weights(other)
    return {name: float((mine[name] - theirs[name]).abs().max()) for name in mine}


def _of_pictures(one: Path, other: Path) -> float:
    mine, theirs = (np.asarray(Image.open(path)).astype(int) for path in (one, other))
    return float(np.abs(mine - theirs).max()) if mine.shape == theirs.shape else DIFFERENT


def _of_values(mine: Any, theirs: Any, left_out: Iterable[str] = ()) -> float:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        if list(mine) != list(theirs):
            return DIFFERENT
        return max((_of_values(mine[k], theirs[k], left_out) for k in mine if k not in left_out), default=0.0)
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        return max((_of_values(a, b, left_out) for a, b in zip(mine, theirs, strict=True)), default=0.0)
    if isinstance(mine, int | float) and isinstance(theirs, int | float):
        same = mine == theirs or (math.isnan(mine) and math.isnan(theirs))
        return 0.0 if same else abs(mine - theirs) / max(1.0, abs(mine), abs(theirs))
    return 0.0 if mine == theirs else DIFFERENT


def _table(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: _number(cell) for name, cell in row.items() if not _is_time(name)} for row in rows]


def _is_time(column: str) -> bool:
    return column.startswith("speed/") or column.endswith("validation_share")


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _kind(path: Path) -> str:
    if path.parts[0].startswith("errors-") and path.name != "index.json":
        return f"{path.parts[0]}/*"
    return f"{path.parent}/*{path.suffix}" if path.suffix == ".png" else str(path)


def _written(value: float) -> str:
    return "0" if value == 0 else "differs" if math.isinf(value) else f"{value:.0e}"
