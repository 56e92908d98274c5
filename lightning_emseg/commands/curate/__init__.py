"""``emseg curate``: from files of micrographs to a set of tiles worth learning from."""

from lightning_emseg.commands.curate.dedup import dedup
from lightning_emseg.commands.curate.filter import filter_set
from lightning_emseg.commands.curate.label import label
from lightning_emseg.commands.curate.pack import pack_set
from lightning_emseg.commands.curate.tile import tile

__all__ = ["dedup", "filter_set", "label", "pack_set", "tile"]
