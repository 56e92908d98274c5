"""What a tile set holds, as plain data; no input or output in here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SIDE = 224
"""Side of a tile in px (Conrad and Narayan 2021)."""
PLANES = ("xy", "xz", "yz")
COLUMNS = ("plane", "section", "y", "x", "height", "width")
"""Of the array of positions: index into :data:`PLANES`, section along the axis that the plane lacks, first row and
column in the plane, and the part of the tile that holds pixels; all but the first in px of the source as tiled."""

FORMAT = 1
CHUNK = (1, SIDE, SIDE)
SHARD = (1024, SIDE, SIDE)
"""A tile is read alone; 1,024 of them make a file of 51 MB."""


@dataclass(frozen=True)
class Source:
    """One image or volume that tiles were cut from.

    Attributes:
        name: Of its folder in the set, unique.
        file: As the user named it, relative to what was searched.
        pixel_size_nm: Of the tiles, as ``(Z, Y, X)`` or ``(Y, X)`` of the source's axes; ``None`` where unknown.
        licence: As the user stated it; empty where unknown.
        details: JSON-ready record of the format, the rule to 8 bit, downsampling, flags and counts.
    """

    name: str
    file: str
    pixel_size_nm: tuple[float, ...] | None = None
    licence: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_attributes(self) -> dict[str, Any]:
        """JSON-ready form, the inverse of :meth:`from_attributes`."""
        size = None if self.pixel_size_nm is None else list(self.pixel_size_nm)
        named = {"name": self.name, "file": self.file, "licence": self.licence, "details": dict(self.details)}
        return {"format": FORMAT, "pixel_size_nm": size, **named}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> "Source":
        """Read what :meth:`to_attributes` wrote."""
        size = attributes["pixel_size_nm"]
        return cls(
            name=str(attributes["name"]),
            file=str(attributes["file"]),
            pixel_size_nm=None if size is None else tuple(float(value) for value in size),
            licence=str(attributes["licence"]),
            details=attributes["details"],
        )
