"""CREMI (https://cremi.org/data): synaptic clefts and neurons in ssTEM of the fruit fly, 40 × 4 × 4 nm."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from data_modules.convert.benchmarks.cremi_files import (
    CLEFTS,
    NEURONS,
    OUTSIDE,
    RAW,
    Sizes,
    find_file,
    labels_in,
    source,
    voxel_size,
)
from data_modules.convert.decode import Pixels
from data_modules.convert.labels import IGNORE, Label
from data_modules.convert.volume_samples import Rule, VolumeLabel, VolumeSample, write_volumes
from data_modules.errors import UserError
from data_modules.store import LabelInfo
from data_modules.tiling.units import parse_pixel_size

TRANSPARENT = 2**64 - 1
"""Value of clefts' background (0 in some later versions of the files)."""


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


LABELS: Mapping[str, tuple[str, Rule]] = {CLEFTS: ("cleft", Clefts()), NEURONS: ("neuron", Neurons())}
"""Name of the label and its rule by the name of the dataset."""


def convert_cremi(
    root: Path,
    out: Path,
    train: str = "A,B",
    test: str = "C",
    predict: str = "",
    padded: bool = False,
    resolution: str | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Convert samples of CREMI: the binary label cleft, and neuron as ids; those to be predicted without labels.

    Files are sample_A_20160501.hdf or, with --padded, sample_A_padded_20160501.hdf, whose raw volume reaches further
    than the labels: all of it is kept, with cleft 255 (ignored) and neuron 0 outside of the labels. A label that a file
    lacks is left out of its sample, and said to be. The challenge's test samples are sample_A+_20160601.hdf, ….

    Args:
        root: Folder that holds the files.
        out: The store to write into, made where it does not exist.
        train: Samples for training, such as A,B; an empty text for none.
        test: Samples for testing, such as C; an empty text for none.
        predict: Samples of which the raw volume alone is converted, into the split predict, such as A+,B+,C+.
        padded: Convert the padded files.
        resolution: Sides of a voxel as Z,Y,X in nm, such as 40,4,4, for files that do not state them.
        overwrite: Replace samples of the same name.

    Returns:
        ``<split>/<sample>`` of everything written, such as train/sample-A.

    Raises:
        UserError: if files or datasets are missing or damaged, the axes are not Z, Y, X, labels do not fit into the raw
            volume, or a sample is in two splits; the message names them.
    """
    letters = {split: _letters(text) for split, text in (("train", train), ("test", test), ("predict", predict))}
    size = _resolution(resolution)
    for one, other in combinations(letters, 2):
        if both := set(letters[one]) & set(letters[other]):
            message = f"samples {', '.join(sorted(both))} are in --{one} and in --{other}: a sample may be in one only"
            raise UserError(message)
    if not any(letters.values()):
        raise UserError("--train, --test and --predict are all empty: give samples, such as --train A,B --test C")
    chosen = [(split, letter, find_file(root, letter, padded)) for split, found in letters.items() for letter in found]
    samples = [_sample(split, letter, file, size) for split, letter, file in chosen]
    return write_volumes(out, samples, "cremi", overwrite=overwrite)


def _letters(text: str) -> list[str]:
    return [letter.strip().upper() for letter in text.split(",") if letter.strip()]


def _resolution(text: str | None) -> Sizes | None:
    sizes = None if text is None else parse_pixel_size(text, "--resolution")
    if sizes is None:
        return None
    if len(sizes) != 3:
        raise UserError(f"--resolution {text}: a volume needs Z,Y,X in nanometers, such as 40,4,4")
    return sizes[0], sizes[1], sizes[2]


def _sample(split: str, letter: str, file: Path, given: Sizes | None) -> VolumeSample:
    size = voxel_size(file, given)
    present = [] if split == "predict" else labels_in(file, size)
    sample = f"sample-{letter}"
    labels = []
    for dataset, (name, rule) in LABELS.items():
        if dataset in present:
            labels.append(VolumeLabel(name, source(file, dataset, size), rule))
        elif split != "predict":
            warnings.warn(f"{file} has no {dataset}: {split}/{sample} gets no label {name}", stacklevel=3)
    return VolumeSample(split, sample, source(file, RAW, size), size, tuple(labels))
