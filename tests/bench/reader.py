"""Random 1024² reads: this project's reader against zarr-python, TensorStore and a raw memory map."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
import zarr
from numpy.typing import NDArray

from data_modules.store import ArrayRef, LabelInfo, MosaicStore, SampleWriter, read
from tests.bench.harness import Row, interleave, median
from tests.bench.micrographs import mosaic

PATCH = 1024
SIDE = 8192
REPEATS = 60
SAME, PLAIN = "zarr-python, same store", "zarr-python, unsharded 1024² chunks, default compressor"
TENSORSTORE, FLOOR = "TensorStore, same store", "memory map, no checksum"
TARGETS = {SAME: 3.0, PLAIN: 5.0}

Region = tuple[slice, slice]
Reader = Callable[[Region], object]


def rows(scratch: Path) -> Iterator[Row]:
    """Image, mask, and both of one patch, in one process."""
    image, mask, pixels = mosaic((SIDE, SIDE))
    with SampleWriter(scratch / "own.zarr", "train", "a", image.shape, (4.0, 4.0)) as sample:
        label = sample.add_label("membrane", LabelInfo("binary"))
        sample.image.write(image)
        label.write(mask)
    opened = MosaicStore(scratch / "own.zarr").sample("train/a")
    readers = {
        "image": _readers(opened.image, image, scratch / "image"),
        "mask": _readers(opened.label("membrane"), mask, scratch / "mask"),
    }
    candidates: dict[str, Callable[[], object]] = {}
    for name in readers["image"]:
        for what, parts in (("image", ["image"]), ("mask", ["mask"]), ("image + mask", ["image", "mask"])):
            candidates[f"{what}, {name}"] = _patches([readers[part][name] for part in parts], image.shape)
    seconds = {name: median(values) for name, values in interleave(candidates, REPEATS, warmup=5).items()}
    for what in ("image", "mask", "image + mask"):
        own = seconds[f"{what}, own"]
        for name in (SAME, PLAIN, TENSORSTORE, FLOOR):
            ratio = seconds[f"{what}, {name}"] / own
            target = TARGETS.get(name) if what == "image + mask" else None
            yield Row(
                "reader",
                f"random 1024² read, {what}",
                1e3 * own,
                "ms",
                name,
                ratio,
                f"≥ {target:g} ×" if target else "",
                ratio >= target if target else None,
                f"{1e3 * seconds[f'{what}, {name}']:.2f} ms; {pixels}, page cache",
            )


def _readers(array: ArrayRef, pixels: NDArray[np.uint8], folder: Path) -> dict[str, Reader]:
    same: Any = zarr.open_array(array.path, mode="r")
    plain: Any = zarr.create_array(
        folder.with_suffix(".zarr"), shape=pixels.shape, dtype="uint8", chunks=(PATCH, PATCH)
    )
    plain[...] = pixels
    np.save(folder.with_suffix(".npy"), pixels)
    mapped = np.load(folder.with_suffix(".npy"), mmap_mode="r")
    # Without a cache, so that no candidate finds what another has left there.
    kvstore = {"driver": "file", "path": array.path}
    driver = ts.open({"driver": "zarr3", "kvstore": kvstore}, open=True, read=True).result()
    return {
        "own": lambda region: read(array, region),
        SAME: lambda region: same[region],
        PLAIN: lambda region: plain[region],
        TENSORSTORE: lambda region: np.asarray(driver[region].read().result()),
        FLOOR: lambda region: np.array(mapped[region]),
    }


def _patches(readers: Sequence[Reader], shape: tuple[int, ...]) -> Callable[[], object]:
    """Each candidate walks through the same random patches."""
    random = np.random.default_rng(0)
    corners = random.integers(0, np.asarray(shape) - PATCH + 1, (REPEATS + 5, len(shape)))
    regions = itertools.cycle([(slice(y, y + PATCH), slice(x, x + PATCH)) for y, x in corners.tolist()])

    def patch() -> list[object]:
        region = next(regions)
        return [reader(region) for reader in readers]

    return patch
