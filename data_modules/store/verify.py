"""Verification of whole stores: a list of everything that is damaged or missing."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from data_modules.errors import UserError
from data_modules.store import layout
from data_modules.store.reader import ArrayRef, Sample, read
from data_modules.store.samples import MosaicStore


@dataclass(frozen=True)
class Damage:
    """One region that cannot be read.

    Attributes:
        sample: ``<split>/<sample>``.
        what: Name of the array.
        region: Part of that array in px; empty when the whole sample cannot be opened.
        message: Cause, with the file.
    """

    sample: str
    what: str
    region: tuple[slice, ...]
    message: str


def verify(store: MosaicStore, progress: Callable[[int], object] = lambda pixels: None) -> list[Damage]:
    """Read every chunk of every level of every array; of foreign samples full resolution only.

    Args:
        store: Store to read.
        progress: Function that is called with the number of pixels after each piece.

    Returns:
        Damaged and missing regions, in the store's order; empty for a sound store.
    """
    damages: list[Damage] = []
    for key, sample in _samples(store):
        if isinstance(sample, UserError):
            damages.append(Damage(key, "metadata", (), str(sample)))
            continue
        for array in _all_levels(sample):
            damages.extend(_verify_array(store, key, array, progress))
    return damages


def pixels_to_verify(store: MosaicStore) -> int:
    """Count the stored pixels that :func:`verify` will read."""
    return sum(
        math.prod(array.shape)
        for _, sample in _samples(store)
        if isinstance(sample, Sample)
        for array in _all_levels(sample)
    )


def _samples(store: MosaicStore) -> Iterator[tuple[str, Sample | UserError]]:
    """Every folder that should hold a sample, opened, or why it cannot be."""
    for split in store.location.children():
        if not split.has_metadata():
            yield split.key, UserError(f"{split}/zarr.json is missing: this split is not seen; convert it again")
            continue
        for folder in split.children():
            try:
                yield folder.key, store.sample(folder.key)
            except UserError as error:
                yield folder.key, error


def _all_levels(sample: Sample) -> Iterator[ArrayRef]:
    """Every array of a sample of ours; of a foreign one full resolution, which is all that is ever read of it."""
    for base in (sample.image, *sample.labels.values()):
        for level, shape in enumerate(layout.level_shapes(base.shape) if base.complete else [base.shape]):
            path = f"{base.path.rpartition('/')[0]}/{level}" if level else base.path
            yield replace(base, path=path, shape=shape, what=f"{base.what}, level {level}")


def _verify_array(
    store: MosaicStore, sample: str, array: ArrayRef, progress: Callable[[int], object]
) -> Iterator[Damage]:
    location = store.location.child(array.path.removeprefix(f"{store.path}/"))
    try:
        metadata = location.metadata()
        shard = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
        codec = metadata["codecs"][0]
        sharded = codec["name"] == "sharding_indexed"
        chunk = tuple(codec["configuration"]["chunk_shape"]) if sharded else shard
        array = replace(array, stamp=location.stamp())
    except (UserError, LookupError, TypeError, ValueError) as error:
        yield Damage(sample, array.what, (), f"{array.what}: {location}/zarr.json cannot be read: {error}")
        return
    for region in _pieces([slice(0, side) for side in array.shape], shard):
        failure = _failure(sample, array, region)
        if failure is not None:
            # One shard holds many chunks: name only those that are lost, or the shard when all of them are.
            parts = list(_pieces(region, chunk))
            failures = [found for part in parts if (found := _failure(sample, array, part)) is not None]
            yield from [failure] if len(failures) == len(parts) else failures
        progress(math.prod(part.stop - part.start for part in region))


def _failure(sample: str, array: ArrayRef, region: tuple[slice, ...]) -> Damage | None:
    try:
        read(array, region)
    except UserError as error:
        return Damage(sample, array.what, region, str(error))
    return None


def _pieces(region: Sequence[slice], size: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    axes = (
        [slice(start, min(start + step, part.stop)) for start in range(part.start, part.stop, step)]
        for part, step in zip(region, size, strict=True)
    )
    yield from itertools.product(*axes)
