"""CREMI (https://cremi.org/data): synaptic clefts and neurons in ssTEM of the fruit fly, 40 × 4 × 4 nm."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data_modules.convert.decode import HDF5_SUFFIXES, Pixels, readable
from data_modules.convert.labels import IGNORE, Label
from data_modules.convert.sources import shorten
from data_modules.convert.volume_samples import VolumeLabel, VolumeSample, write_volumes
from data_modules.convert.volume_stacks import Stack
from data_modules.errors import UserError
from data_modules.store import LabelInfo

RAW, CLEFTS, NEURONS = "volumes/raw", "volumes/labels/clefts", "volumes/labels/neuron_ids"
TRANSPARENT = 2**64 - 1
"""Value of clefts' background (0 in some later versions of the files)."""
OUTSIDE = 2**64 - 3
"""Values from here to the one below ``TRANSPARENT`` mark what was not annotated."""
_LAYOUT = f"a file sample_A_20160501.hdf for each sample, with {RAW}, {CLEFTS} and {NEURONS}"


@dataclass(frozen=True)
class Clefts:
    """Cleft ids to a binary mask."""

    @property
    def info(self) -> LabelInfo:
        """Binary."""
        return LabelInfo("binary")

    def apply(self, pixels: Pixels, what: str) -> Label:
        """1 for any cleft, 0 for background, 255 for what was not annotated."""
        mask = ((pixels != TRANSPARENT) & (pixels != 0)).astype(np.uint8)
        mask[(pixels >= OUTSIDE) & (pixels != TRANSPARENT)] = IGNORE
        return Label(mask, {"rule": "any id is cleft; 0 and 2^64-1 are background; 2^64-2 and 2^64-3 are ignored"})


@dataclass(frozen=True)
class Neurons:
    """Neuron ids as they are, with 0 for what was not annotated."""

    @property
    def info(self) -> LabelInfo:
        """Instances."""
        return LabelInfo("instances")

    def apply(self, pixels: Pixels, what: str) -> Label:
        """Ids in ``uint64``."""
        return Label(np.where(pixels >= OUTSIDE, np.uint64(0), pixels), {"rule": "ids unchanged; not annotated is 0"})


def convert_cremi(
    root: Path, out: Path, train: str = "A,B", test: str = "C", padded: bool = False, overwrite: bool = False
) -> list[str]:
    """Convert the annotated samples of CREMI: the binary label cleft, and neuron as ids.

    Files are sample_A_20160501.hdf or, with --padded, sample_A_padded_20160501.hdf, whose raw volume reaches further
    than the labels: all of it is kept, with cleft 255 (ignored) and neuron 0 outside of the labels.

    Args:
        root: Folder that holds the files.
        out: The store to write into, made where it does not exist.
        train: Samples for training, such as A,B; an empty text for none.
        test: Samples for testing, such as C; an empty text for none.
        padded: Convert the padded files.
        overwrite: Replace samples of the same name.

    Returns:
        ``<split>/<sample>`` of everything written, such as train/sample-A.

    Raises:
        UserError: if files or datasets are missing or damaged, labels do not fit into the raw volume, or a sample is in
            both splits; the message names them.
    """
    letters = {split: _letters(text) for split, text in (("train", train), ("test", test))}
    if both := set(letters["train"]) & set(letters["test"]):
        raise UserError(f"samples {', '.join(sorted(both))} are in --train and in --test: a sample may be in one only")
    chosen = [(split, letter, _file(root, letter, padded)) for split, found in letters.items() for letter in found]
    if not chosen:
        raise UserError("--train and --test are both empty: give samples, such as --train A,B --test C")
    return write_volumes(out, [_sample(*each) for each in chosen], "cremi", overwrite=overwrite)


def _letters(text: str) -> list[str]:
    return [letter.strip().upper() for letter in text.split(",") if letter.strip()]


def _file(root: Path, letter: str, padded: bool) -> Path:
    if not root.is_dir():
        raise UserError(f"{root} does not exist: --root should hold {_LAYOUT}")
    name = re.compile(rf"sample_?{re.escape(letter)}(?P<padded>_padded)?(?:_\d+)?$", re.IGNORECASE)
    files = [file for file in sorted(root.iterdir()) if file.suffix.lower() in HDF5_SUFFIXES]
    matches = [(file, match) for file in files if (match := name.fullmatch(file.stem))]
    found = [file for file, match in matches if bool(match["padded"]) == padded]
    if len(found) > 1:
        raise UserError(f"{root} has several files of sample {letter}: {shorten([f.name for f in found])}; keep one")
    if found:
        return found[0]
    other = ["or leave out --padded" if padded else "or pass --padded"] if matches else []
    wanted = f"sample_{letter}_{'padded_' if padded else ''}20160501.hdf"
    raise UserError(f"{root} has no {wanted}: --root should hold {_LAYOUT}{''.join(f'; {text}' for text in other)}")


def _sample(split: str, letter: str, file: Path) -> VolumeSample:
    with readable(file), h5py.File(file, "r") as opened:
        if missing := [name for name in (RAW, CLEFTS, NEURONS) if not isinstance(opened.get(name), h5py.Dataset)]:
            raise UserError(f"{file} has no {shorten(missing)}: --root should hold {_LAYOUT}")
        size = _attribute(opened[RAW], "resolution", file)
        for name in (CLEFTS, NEURONS):
            _corner(opened[name], opened[RAW], size, file)
    labels = (
        VolumeLabel("cleft", partial(_opened, file, CLEFTS, size), Clefts()),
        VolumeLabel("neuron", partial(_opened, file, NEURONS, size), Neurons()),
    )
    return VolumeSample(split, f"sample-{letter}", partial(_opened, file, RAW, size), size, labels)


def _attribute(dataset: Any, name: str, file: Path) -> tuple[float, float, float]:
    values = np.ravel(dataset.attrs.get(name, ()))
    if len(values) != 3 or not np.isfinite(values).all():
        raise UserError(f"{file}:{dataset.name} has no attribute {name} of three numbers (Z, Y, X in nm)")
    return float(values[0]), float(values[1]), float(values[2])


def _corner(labels: Any, raw: Any, size: tuple[float, float, float], file: Path) -> list[int]:
    """First voxel of the labels in the raw volume, from their ``offset`` in nm, 0 where there is none."""
    corner = []
    offset = _attribute(labels, "offset", file) if "offset" in labels.attrs else (0.0, 0.0, 0.0)
    for axis, (nm, side) in enumerate(zip(offset, size, strict=True)):
        voxel = round(nm / side)
        if abs(voxel * side - nm) > 0.01 * side or voxel < 0 or voxel + labels.shape[axis] > raw.shape[axis]:
            raise UserError(
                f"{file}:{labels.name} with {labels.shape} px at {offset} nm does not fit into {RAW} with {raw.shape} "
                f"px of {size} nm (Z, Y, X): is the file whole?"
            )
        corner.append(voxel)
    return corner


@contextmanager
def _opened(file: Path, name: str, size: tuple[float, float, float]) -> Iterator[Stack]:
    with h5py.File(file, "r") as opened:
        dataset, raw = opened[name], opened[RAW]
        z, y, x = [0, 0, 0] if name == RAW else _corner(dataset, raw, size, file)
        depth, height, width = dataset.shape

        def read(start: int, stop: int) -> Pixels:
            first, last = max(start, z), min(stop, z + depth)
            with readable(file):
                if dataset.shape == raw.shape:
                    return np.asarray(dataset[start:stop])
                pixels = np.full((stop - start, *raw.shape[1:]), OUTSIDE, np.uint64)
                if first < last:
                    pixels[first - start : last - start, y : y + height, x : x + width] = dataset[first - z : last - z]
                return pixels

        record = {"source": file.name, "dataset": name, "first_voxel": [z, y, x]}
        yield Stack(f"{file}:{name}", record, raw.shape, dataset.dtype, read, size)
