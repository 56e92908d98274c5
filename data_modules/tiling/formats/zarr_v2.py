"""Arrays of Zarr version 2, which TensorStore reads wherever they are."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from data_modules.store.tensors import ANSWER_S, kvstore_spec
from data_modules.tiling.volumes import Header, Pixels, Region


@dataclass(frozen=True)
class Version2:
    """An open array with ``leading`` axes of length 1 before the sections or rows."""

    header: Header
    array: Any
    leading: int

    def read(self, region: Region) -> Pixels:
        """See :class:`~data_modules.tiling.volumes.Volume`."""
        inner = region[-(self.array.rank - self.leading) :]
        pixels = np.asarray(self.array[(*[slice(0, 1)] * self.leading, *inner)].read().result())
        size = [part.stop - part.start for part in region]
        return pixels.reshape(size).astype(self.header.dtype, copy=False)


def open_v2(path: str, header: Header, leading: int) -> Version2:
    """Open an array.

    Args:
        path: Folder or URL.
        header: Of the volume.
        leading: Number of axes of length 1 before the sections or rows.

    Raises:
        ValueError: if it is damaged or does not answer.
    """
    import tensorstore as ts

    context = ts.Context({"cache_pool": {"total_bytes_limit": 64_000_000}})
    spec = {"driver": "zarr", "kvstore": kvstore_spec(path.rstrip("/"))}
    array = ts.open(spec, open=True, read=True, context=context)
    return Version2(header, array.result(timeout=ANSWER_S), leading)
