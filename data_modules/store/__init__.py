"""The mosaic store: sharded, checksummed OME-Zarr 0.5, one image group a sample, its labels beside it.

Layout: ``<name>.zarr/<split>/<sample>/{0,1,…}`` with ``labels/<label>/{0,1,…}`` in every sample.
"""

from data_modules.store.arrays import ArrayWriter, Rows
from data_modules.store.layout import LabelInfo, LabelKind, shard_rows
from data_modules.store.reader import ArrayRef, MosaicView, Sample, read
from data_modules.store.samples import MosaicStore
from data_modules.store.verify import Damage, verify
from data_modules.store.writer import Earlier, SampleWriter, clear_rest, find_earlier

__all__ = [
    "ArrayRef",
    "ArrayWriter",
    "Damage",
    "Earlier",
    "LabelInfo",
    "LabelKind",
    "MosaicStore",
    "MosaicView",
    "Rows",
    "Sample",
    "SampleWriter",
    "clear_rest",
    "find_earlier",
    "read",
    "shard_rows",
    "verify",
]
