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
    """Read every chunk of every level of every array; of foreign samples full resolution only.

    Args:
        store: To be read.
        progress: Called with the number of pixels after each piece.

    Returns:
        What is damaged or missing, in the store's order; empty for a sound store.
    """
    damages: list[Damage] = []
    for key, sample in _samples(store):
        if isinstance(sample, UserError):
            damages.append(Damage(key, "metadata", (), str(sample)))
            continue
        for array in _all_levels(sample):
            damages.extend(_verify_array(key, array, progress))
    return damages


def pixels_to_verify(store: MosaicStore) -> int:
    """Number of stored pixels that :func:`verify` will read."""
    return sum(
        _size(array.shape)
        for _, sample in _samples(store)
        if isinstance(sample, Sample)
        for array in _all_levels(sample)
    )


def _samples(store: MosaicStore) -> Iterator[tuple[str, Sample | UserError]]:
    """Every folder that should hold a sample, opened, or why it cannot be."""
    for split in _folders(store.path):
        if not (split / "zarr.json").is_file():
            yield split.name, UserError(f"{split / 'zarr.json'} is missing: this split is not seen; convert it again")
            continue
        for folder in _folders(split):
            key = f"{split.name}/{folder.name}"
            try:
                yield key, store.sample(key)
            except UserError as error:
                yield key, error


def _folders(parent: Path) -> list[Path]:
    return sorted(child for child in parent.iterdir() if child.is_dir() and not child.name.startswith("."))


def _size(shape: Sequence[int]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def _all_levels(sample: Sample) -> Iterator[ArrayRef]:
    """Every array of a sample of ours; of a foreign one full resolution, which is all that is ever read of it."""
    for base in (sample.image, *sample.labels.values()):
        for level, shape in enumerate(layout.level_shapes(base.shape) if base.complete else [base.shape]):
            path = Path(base.path).with_name(str(level)) if level else base.path
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
