"""Names, shapes, OME-Zarr 0.5 metadata and settings of stores, and reasons why reading fails."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from data_modules.errors import UserError

OME_VERSION = "0.5"
FORMAT = 1
"""Version of what this project adds to OME-Zarr under the attribute ``emseg``."""

Attributes = dict[str, Any]
LabelKind = Literal["binary", "classes", "instances"]
AXES: Mapping[int, tuple[str, ...]] = {2: ("y", "x"), 3: ("z", "y", "x")}

# Random 1024² reads favour 512² chunks; 16 of them to a shard keep a 10k mosaic at 25 files (docs/decisions.md).
CHUNK: Mapping[int, tuple[int, ...]] = {2: (512, 512), 3: (8, 256, 256)}
SHARD: Mapping[int, tuple[int, ...]] = {2: (2048, 2048), 3: (32, 1024, 1024)}
SMALLEST_LEVEL = 1024
"""Pyramid levels are added until the longest side is at most this many px."""


@dataclass(frozen=True)
class LabelInfo:
    """Meaning of the values of a label.

    Attributes:
        kind: ``binary`` (0, 1, ignore 255), ``classes`` (a value a class, ignore 255) or ``instances`` (ids, 0 = none).
        classes: Names by value, for ``classes``.
        counts: Number of pixels by value, taken while writing; empty for instances and in foreign stores.
    """

    kind: LabelKind
    classes: Mapping[int, str] = field(default_factory=dict)
    counts: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def from_attributes(cls, attributes: Attributes) -> "LabelInfo":
        """Read the attributes that :func:`group_attributes` makes."""
        return cls(
            attributes["kind"],
            {int(value): str(name) for value, name in attributes.get("classes", {}).items()},
            {int(value): int(count) for value, count in attributes.get("counts", {}).items()},
        )

    def foreground_values(self, names: Sequence[str | int], label: str) -> tuple[int, ...]:
        """Look up the values that count as foreground; none for instances stands for all of them.

        Args:
            names: Classes by name or value, or ids of instances.
            label: Label and sample, for messages.

        Raises:
            UserError: if a class is unknown, or a label with classes has no foreground.
        """
        if self.kind == "binary":
            if names and list(names) != [1]:
                raise UserError(f"{label} is binary: leave out data.foreground ({list(names)})")
            return (1,)
        if self.kind == "instances":
            return tuple(int(name) for name in names)
        if not names:
            known = ", ".join(self.classes.values())
            raise UserError(
                f"{label} has classes ({known}): say which are foreground, e.g. --data.foreground '[mitochondrion]'"
            )
        values = {name: value for value, name in self.classes.items()} | {value: value for value in self.classes}
        unknown = [name for name in names if name not in values]
        if unknown:
            raise UserError(f"{label} has no class {unknown}; it has {dict(self.classes)}")
        return tuple(values[name] for name in names)

    def class_values(self, names: Sequence[str], label: str) -> tuple[tuple[int, str], ...]:
        """Look up value and name of each class, in the order of ``names``.

        Args:
            names: Names of all classes.
            label: Label and sample, for messages.

        Raises:
            UserError: if the label is not of kind ``classes``, or has other classes.
        """
        if self.kind != "classes":
            raise UserError(
                f"{label} is {self.kind}, so that it has no classes: leave out data.classes, or convert it with "
                "--kind classes"
            )
        values = {name: value for value, name in self.classes.items()}
        if len(set(names)) < len(names) or set(names) != set(values):
            raise UserError(
                f"{label} has the classes {list(values)}, but data.classes names {list(names)}: name all of them once, "
                "the background first"
            )
        return tuple((values[name], name) for name in names)


def level_shapes(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Compute the shapes of the pyramid, full resolution first; only Y and X are halved.

    >>> level_shapes((9958, 9959))
    [(9958, 9959), (4979, 4980), (2490, 2490), (1245, 1245), (623, 623)]
    """
    shapes = [tuple(shape)]
    while max(shapes[-1][-2:]) > SMALLEST_LEVEL:
        *leading, y, x = shapes[-1]
        shapes.append((*leading, (y + 1) // 2, (x + 1) // 2))
    return shapes


def chunk_and_shard(shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Choose chunk and shard of an array: the usual ones, cut down to whole chunks where the array is smaller.

    >>> chunk_and_shard((700, 3000))
    ((512, 512), (1024, 2048))
    """
    chunk = tuple(min(usual, side) for usual, side in zip(CHUNK[len(shape)], shape, strict=True))
    shard = tuple(
        min(usual // CHUNK[len(shape)][axis], -(-side // piece)) * piece
        for axis, (usual, side, piece) in enumerate(zip(SHARD[len(shape)], shape, chunk, strict=True))
    )
    return chunk, shard


def shard_rows(shape: Sequence[int]) -> int:
    """Rows of a shard, along the first axis, of an array of this shape."""
    return chunk_and_shard(shape)[1][0]


def multiscales(name: str, levels: int, pixel_size_nm: Sequence[float], label: bool = False) -> Attributes:
    """Build the ``multiscales`` entry of an image or label group.

    Args:
        name: Name for viewers.
        levels: Number of pyramid levels.
        pixel_size_nm: Size at full resolution, one value an axis.
        label: Whether lower levels are by nearest neighbour instead of local means.
    """
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in AXES[len(pixel_size_nm)]]
    datasets = []
    for level in range(levels):
        *leading, y, x = (float(size) for size in pixel_size_nm)
        scale = [*leading, y * 2**level, x * 2**level]
        # Halving by local means moves the centre of the first pixel; nearest neighbour keeps it.
        shift = 0.0 if label else (2**level - 1) / 2
        translation = [*(0.0 for _ in leading), y * shift, x * shift]
        transformations: list[Attributes] = [{"type": "scale", "scale": scale}]
        if any(translation):
            transformations.append({"type": "translation", "translation": translation})
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    return {"name": name, "axes": axes, "datasets": datasets, "type": "nearest" if label else "mean"}


def group_attributes(
    name: str, levels: int, pixel_size_nm: Sequence[float], provenance: Attributes, info: LabelInfo | None = None
) -> Attributes:
    """Build the attributes of an image group, or of a label group.

    Args:
        name: Name for viewers.
        levels: Number of pyramid levels.
        pixel_size_nm: Size at full resolution, one value an axis.
        provenance: Record of where the pixels came from and what was done to them.
        info: Meaning of the values of a label; ``None`` for an image.
    """
    ome = {"version": OME_VERSION, "multiscales": [multiscales(name, levels, pixel_size_nm, label=info is not None)]}
    if info is None:
        return {"ome": ome, "emseg": {"format": FORMAT, "provenance": provenance}}
    image_label: Attributes = {"version": OME_VERSION, "source": {"image": "../../"}}
    if info.kind == "binary":
        image_label["colors"] = [{"label-value": 1, "rgba": [255, 64, 64, 160]}]
    elif info.kind == "classes":
        image_label["properties"] = [{"label-value": value, "class": name} for value, name in info.classes.items()]
    return {
        "ome": {**ome, "image-label": image_label},
        "emseg": {"format": FORMAT, **asdict(info), "provenance": provenance},
    }


CACHE_VARIABLE = "EMSEG_CACHE_MB"
"""Environment variable, because it reaches loader workers however they are started."""
DEFAULT_CACHE_MB = 64


def cache_bytes() -> int:
    """Look up the memory in bytes for shard indexes, and as much again for chunks of remote and foreign stores.

    Returns:
        ``EMSEG_CACHE_MB`` of this process's environment, 64 MB without it; 0 remembers nothing.

    Raises:
        UserError: if the variable is no number of 0 or more.
    """
    text = os.environ.get(CACHE_VARIABLE, str(DEFAULT_CACHE_MB))
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = -1.0
    if not 0 <= megabytes < 1e9:
        raise UserError(f"{CACHE_VARIABLE}={text} is no number of megabytes: set it to 0 or more, e.g. 64")
    return int(megabytes * 1e6)


Kind = Literal["missing", "damaged", "unreadable", "replaced"]


class ReadError(Exception):
    """Failure to read something stored.

    Args:
        kind: ``missing`` when it is not there, ``damaged`` when it is not what was written, ``replaced`` when it is
            another array than the one that was opened, ``unreadable`` for everything else, such as permissions or a
            network.
        cause: Error that was met, with the file or URL.
    """

    def __init__(self, kind: Kind, cause: str) -> None:
        super().__init__(cause)
        self.kind: Kind = kind


def is_url(path: str) -> bool:
    """Whether ``path`` is an address and not a folder."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", path) is not None
