"""From files of any format of electron microscopy to the tiles of a :mod:`~data_modules.tile_set`.

Sizes, planes and remainders are those of Conrad and Narayan (2021), https://doi.org/10.7554/eLife.65894.
"""

from data_modules.images.image import RefusedError, parse_pixel_size
from data_modules.tiling.building import tile_sources
from data_modules.tiling.cutting import Settings
from data_modules.tiling.sources import Entry, Stated, find_sources, read_stated

__all__ = [
    "Entry",
    "RefusedError",
    "Settings",
    "Stated",
    "find_sources",
    "parse_pixel_size",
    "read_stated",
    "tile_sources",
]
