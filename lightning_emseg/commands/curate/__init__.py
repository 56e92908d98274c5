"""``emseg curate``: from files of micrographs to a set of tiles worth learning from."""

from lightning_emseg.commands.curate.dedup import dedup
from lightning_emseg.commands.curate.tile import tile

__all__ = ["dedup", "tile"]
