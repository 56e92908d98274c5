"""Sets of small tiles from many sources, for curation and pretraining: one checksummed array a source.

Layout: ``<set>/sources/<source>/{tiles,positions}``, and one table a curation step beside ``sources``.
"""

from data_modules.tile_set.layout import COLUMNS, PLANES, SIDE, Source
from data_modules.tile_set.reader import SourceTiles, TileSet
from data_modules.tile_set.tables import read_kept, read_rows
from data_modules.tile_set.writer import SourceWriter

__all__ = ["COLUMNS", "PLANES", "SIDE", "Source", "SourceTiles", "SourceWriter", "TileSet", "read_kept", "read_rows"]
