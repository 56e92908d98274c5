"""CREMI (https://cremi.org/data): synaptic clefts and neurons in ssTEM of the fruit fly, 40 × 4 × 4 nm."""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data_modules.batch import IGNORE
from data_modules.convert.folder import parse_volume_pixel_size
from data_modules.convert.labels import CustomRule, Label
from data_modules.convert.samples import LabelSource, SampleSource, write_samples
from data_modules.errors import UserError, shorten
from data_modules.images.image import HDF5_SUFFIXES, Image, Pixels, Region, doubtful_axes, refusing
from data_modules.store import LabelInfo

RAW, CLEFTS, NEURONS = "volumes/raw", "volumes/labels/clefts", "volumes/labels/neuron_ids"
OUTSIDE = 2**64 - 3
"""Values from here to 2^64 - 2 mark what was not annotated."""
LAYOUT = f"a file sample_A_20160501.hdf for each sample, with {RAW} and, but for testing, {CLEFTS} or {NEURONS}"
Sizes = tuple[float, float, float]


def find_file(root: Path, letter: str, padded: bool) -> Path:
    """The file of one sample.

    Args:
        root: Folder that holds the files.
        letter: Letter of the sample, with a plus for those without labels.
        padded: Whether the padded file is meant.

    Raises:
        UserError: if there is none, or more than one.
    """
    if not root.is_dir():
        raise UserError(f"{root} does not exist: --root should hold {LAYOUT}")
    name = re.compile(rf"sample_?{re.escape(letter)}(?P<padded>_padded)?(?:_\d+)?$", re.IGNORECASE)
    files = [file for file in sorted(root.iterdir()) if file.suffix.lower() in HDF5_SUFFIXES]
    matches = [(file, match) for file in files if (match := name.fullmatch(file.stem))]
    found = [file for file, match in matches if bool(match["padded"]) == padded]
    if len(found) > 1:
        raise UserError(f"{root} has several files of sample {letter}: {shorten([f.name for f in found])}; keep one")
    if found:
        return found[0]
    other = ["or leave out --padded" if padded else "or pass --padded"] if matches else []
    published = "20160601" if letter.endswith("+") else "20160501"
    wanted = f"sample_{letter}_{'padded_' if padded else ''}{published}.hdf"
    raise UserError(f"{root} has no {wanted}: --root should hold {LAYOUT}{''.join(f'; {text}' for text in other)}")


def voxel_size(file: Path, given: Sizes | None) -> Sizes:
    """Sides of a voxel of the raw volume, from its attribute.

    Args:
        file: File of one sample.
        given: Size that the user states, ``(Z, Y, X)`` in nm: taken where the file states none.

    Raises:
        UserError: if the file cannot be read or has no raw volume, if there is no size or a wrong one, or if size and
            shape say that the axes are not Z, Y, X.
    """
    with refusing(file), h5py.File(file, "r") as opened:
        raw = opened.get(RAW)
        if not isinstance(raw, h5py.Dataset):
            raise UserError(f"{file} has no {RAW}: --root should hold {LAYOUT}")
        if raw.ndim != 3:
            raise UserError(f"{file}:{RAW} has shape {raw.shape}: it should have three axes, Z, Y, X")
        if "resolution" in raw.attrs:
            size = _attribute(raw, "resolution", file)
            if given is not None and given != size:
                warnings.warn(f"{file}:{RAW} states {size} nm: --resolution was not used for it", stacklevel=4)
        elif given is not None:
            size = given
        else:
            raise UserError(
                f"{file}:{RAW} has no attribute resolution (Z, Y, X in nm): pass --resolution, such as --resolution "
                "40,4,4, for files that do not state it"
            )
        if min(size) <= 0:
            raise UserError(f"{file}:{RAW} has the attribute resolution {size}: these should be nm, above 0")
        if doubt := doubtful_axes(raw.shape, size):
            raise UserError(
                f"{file}:{RAW} with {doubt}. Nothing is transposed unasked: save {RAW}, its labels and their attribute "
                "resolution as Z, Y, X; a volume that is of this odd shape can be had by `emseg data convert volume`"
            )
    return size


def labels_in(file: Path, size: Sizes) -> list[str]:
    """Those of ``CLEFTS`` and ``NEURONS`` that a file has.

    Args:
        file: File of one sample.
        size: Sides of a voxel of the raw volume.

    Raises:
        UserError: if they do not fit into the raw volume.
    """
    with refusing(file), h5py.File(file, "r") as opened:
        found = [name for name in (CLEFTS, NEURONS) if isinstance(opened.get(name), h5py.Dataset)]
        for name in found:
            _corner(opened[name], opened[RAW], size, file)
    return found


def _attribute(dataset: Any, name: str, file: Path) -> Sizes:
    values = np.ravel(dataset.attrs[name])
    if len(values) != 3 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise UserError(
            f"{file}:{dataset.name} has the attribute {name} {values.tolist()}: it should be three numbers "
            "(Z, Y, X in nm)"
        )
    return float(values[0]), float(values[1]), float(values[2])


def _corner(labels: Any, raw: Any, size: Sizes, file: Path) -> list[int]:
    """First voxel of the labels in the raw volume, from their ``offset`` in nm, 0 where there is none."""
    if "resolution" in labels.attrs and not np.allclose(stated := _attribute(labels, "resolution", file), size):
        raise UserError(f"{file}:{labels.name} is of {stated} nm but {RAW} of {size} nm: labels need its voxels")
    if labels.ndim != 3:
        raise UserError(f"{file}:{labels.name} has shape {labels.shape}: it should have three axes, Z, Y, X")
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
def _open(file: Path, name: str, size: Sizes) -> Iterator[Image]:
    """A dataset as an image of the raw volume's shape, with ``OUTSIDE`` where labels do not reach."""
    with h5py.File(file, "r") as opened:
        dataset, raw = opened[name], opened[RAW]
        z, *corner = [0, 0, 0] if name == RAW else _corner(dataset, raw, size, file)
        is_whole = dataset.shape == raw.shape

        def fetch(region: Region) -> Pixels:
            if is_whole:
                return np.asarray(dataset[region])
            start, stop = region[0].start, region[0].stop
            pixels = np.full((stop - start, *raw.shape[1:]), OUTSIDE, np.uint64)
            first, last = max(start, z), min(stop, z + dataset.shape[0])
            if first < last:
                rows, columns = (slice(at, at + side) for at, side in zip(corner, dataset.shape[1:], strict=True))
                pixels[first - start : last - start, rows, columns] = dataset[first - z : last - z]
            return pixels[:, region[1], region[2]]

        record = {"source": file.name, "dataset": name, "first_voxel": [z, *corner], "source_dtype": str(dataset.dtype)}
        dtype = dataset.dtype if is_whole else np.dtype(np.uint64)
        yield Image(f"{file}:{name}", "HDF5", raw.shape, dtype, fetch, size, record=record)


TRANSPARENT = 2**64 - 1
"""Value of clefts' background (0 in some later versions of the files)."""


def _clefts(pixels: Pixels, what: str) -> Label:
    mask = ((pixels != TRANSPARENT) & (pixels != 0)).astype(np.uint8)
    mask[(pixels >= OUTSIDE) & (pixels != TRANSPARENT)] = IGNORE
    return Label(mask, {"rule": "any id is cleft; 0 and 2^64-1 are background; 2^64-2 and 2^64-3 are ignored"})


def _neurons(pixels: Pixels, what: str) -> Label:
    return Label(np.where(pixels >= OUTSIDE, np.uint64(0), pixels), {"rule": "ids unchanged; not annotated is 0"})


LABELS: Mapping[str, tuple[str, CustomRule]] = {
    CLEFTS: ("cleft", CustomRule(LabelInfo("binary"), _clefts)),
    NEURONS: ("neuron", CustomRule(LabelInfo("instances"), _neurons)),
}
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
    letters = {
        split: [letter.strip().upper() for letter in text.split(",") if letter.strip()]
        for split, text in (("train", train), ("test", test), ("predict", predict))
    }
    size = parse_volume_pixel_size(resolution, "--resolution", "40,4,4")
    for one, other in combinations(letters, 2):
        if both := set(letters[one]) & set(letters[other]):
            message = f"samples {', '.join(sorted(both))} are in --{one} and in --{other}: a sample may be in one only"
            raise UserError(message)
    if not any(letters.values()):
        raise UserError("--train, --test and --predict are all empty: give samples, such as --train A,B --test C")
    chosen = [(split, letter, find_file(root, letter, padded)) for split, found in letters.items() for letter in found]
    samples = [_sample(split, letter, file, size) for split, letter, file in chosen]
    return write_samples(out, samples, "cremi", overwrite=overwrite)


def _sample(split: str, letter: str, file: Path, given: Sizes | None) -> SampleSource:
    size = voxel_size(file, given)
    present = [] if split == "predict" else labels_in(file, size)
    sample = f"sample-{letter}"
    labels = []
    for dataset, (name, rule) in LABELS.items():
        if dataset in present:
            labels.append(LabelSource(name, partial(_open, file, dataset, size), rule))
        elif split != "predict":
            warnings.warn(f"{file} has no {dataset}: {split}/{sample} gets no label {name}", stacklevel=3)
    return SampleSource(split, sample, partial(_open, file, RAW, size), size, tuple(labels))
