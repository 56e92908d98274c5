"""Reading a whole store back, to name everything that is damaged or missing."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import zarr

from data_modules.errors import UserError
from data_modules.store import layout
from data_modules.store.reader import ArrayRef, MosaicStore, Sample, read


@dataclass(frozen=True)
class Damage:
    """One region that cannot be read.

    Attributes:
        sample: ``<split>/<sample>``.
        what: Which array.
        region: In px of that array; empty when the whole sample cannot be opened.
        message: What is wrong, with the file.
    """

    sample: str
    what: str
    region: tuple[slice, ...]
    message: str


def verify(store: MosaicStore, progress: Callable[[int], object] = lambda pixels: None) -> list[Damage]:
    """Read every chunk of every level of every array.

    Args:
        store: To be read.
        progress: Called with the number of pixels after each piece.

    Returns:
        What is damaged or missing, in the store's order; empty for a sound store.
    """
    damages: list[Damage] = []
    for split in store.splits:
        for folder in sorted((store.path / split).iterdir()):
            if folder.name.startswith(".") or not folder.is_dir():
                continue
            key = f"{split}/{folder.name}"
            try:
                sample = store.sample(key)
            except UserError as error:
                damages.append(Damage(key, "metadata", (), str(error)))
                continue
            for array in _all_levels(sample):
                damages.extend(_verify_array(sample.key, array, progress))
    return damages


def pixels_to_verify(store: MosaicStore) -> int:
    """Number of stored pixels on full resolution and all further levels."""
    total = 0
    for sample in store.samples():
        levels = sum(_size(shape) for shape in layout.level_shapes(sample.image.shape))
        total += levels * (1 + len(sample.labels))
    return total


def _size(shape: Sequence[int]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def _all_levels(sample: Sample) -> Iterator[ArrayRef]:
    for base in (sample.image, *sample.labels.values()):
        for level, shape in enumerate(layout.level_shapes(base.shape)):
            path = Path(base.path).with_name(str(level))
            if level == 0 or base.complete or path.exists():
                yield replace(base, path=str(path), shape=shape, what=f"{base.what}, level {level}")


def _verify_array(sample: str, array: ArrayRef, progress: Callable[[int], object]) -> Iterator[Damage]:
    try:
        stored: Any = zarr.open_array(array.path, mode="r")
    except Exception as error:  # zarr raises several unrelated types for broken metadata
        yield Damage(sample, array.what, (), f"{array.path}/zarr.json cannot be read: {error}")
        return
    for region in _pieces((slice(0, side) for side in array.shape), stored.shards or stored.chunks):
        yield from _verify_region(sample, array, region, stored.chunks)
        progress(_size([part.stop - part.start for part in region]))


def _verify_region(sample: str, array: ArrayRef, region: tuple[slice, ...], chunk: tuple[int, ...]) -> list[Damage]:
    failure = _failure(sample, array, region)
    if failure is None:
        return []
    # One shard holds many chunks: name only those that are lost, or the shard when all of them are.
    pieces = list(_pieces(region, chunk))
    failures = [found for piece in pieces if (found := _failure(sample, array, piece)) is not None]
    return [failure] if len(failures) == len(pieces) else failures


def _failure(sample: str, array: ArrayRef, region: tuple[slice, ...]) -> Damage | None:
    try:
        read(array, region)
    except UserError as error:
        return Damage(sample, array.what, region, str(error))
    return None


def _pieces(region: Iterator[slice] | Sequence[slice], size: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    axes = (
        [slice(start, min(start + step, part.stop)) for start in range(part.start, part.stop, step)]
        for part, step in zip(region, size, strict=True)
    )
    yield from itertools.product(*axes)
