"""The mosaic store: sharded, checksummed OME-Zarr 0.5, one image group a sample, its labels beside it.

Layout: ``<name>.zarr/<split>/<sample>/{0,1,…}`` with ``labels/<label>/{0,1,…}`` in every sample.
"""

from data_modules.errors import UserError
from data_modules.store.layout import LabelInfo, LabelKind, shard_rows
from data_modules.store.reader import ArrayRef, MosaicStore, Sample, read
from data_modules.store.verify import Damage, verify
from data_modules.store.view import MosaicView
from data_modules.store.writer import ArrayWriter, SampleWriter

__all__ = [
    "ArrayRef",
    "ArrayWriter",
    "Damage",
    "LabelInfo",
    "LabelKind",
    "MosaicStore",
    "MosaicView",
    "Sample",
    "SampleWriter",
    "UserError",
    "read",
    "shard_rows",
    "verify",
]
