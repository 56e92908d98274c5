"""Predicted clefts as the CREMI challenge takes them: HDF5 in which each cleft has an id of its own."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cc3d
import h5py
import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.store import ArrayRef, Sample, read
from lightning_emseg.metrics.pixels import level_of

DATASET = "volumes/labels/clefts"
BACKGROUND = 2**64 - 1
"""No cleft; the challenge's own code takes any other value, 0 too, for one."""
FILE_FORMAT = "0.2"
"""Attribute of the file, as cremi_python's ``CremiFile`` writes it."""
_CHUNK = (8, 256, 256)
_SECTIONS = 8
"""Read or written together: whole chunks of the store and of the file."""

Triple = tuple[int, int, int]
Ids = NDArray[np.uint32]


@dataclass(frozen=True)
class Crop:
    """A part of a volume.

    Attributes:
        first: First voxel ``(Z, Y, X)``.
        size: Sides ``(Z, Y, X)`` in voxels.
    """

    first: Triple
    size: Triple


@dataclass(frozen=True)
class PredictedClefts:
    """Prediction of one volume, checked.

    Attributes:
        key: ``<split>/<sample>``.
        pixels: Predicted mask, or the probability.
        level: Lowest value of ``pixels`` that is cleft; above it too.
        crop: Part of the volume that is exported.
        voxel_nm: Sides of a voxel, ``(Z, Y, X)``.
    """

    key: str
    pixels: ArrayRef
    level: int
    crop: Crop
    voxel_nm: tuple[float, ...]


def file_name(sample: str) -> str:
    """Name a sample's file as the challenge does, where the sample is named as ``emseg data convert cremi`` does.

    >>> file_name("sample-A+"), file_name("sample-B"), file_name("mine")
    ('sample_A+_20160601.hdf', 'sample_B_20160501.hdf', 'mine.hdf')
    """
    match = re.fullmatch(r"sample-([A-C])(\+?)", sample)
    return f"sample_{match[1]}{match[2]}_2016{'06' if match[2] else '05'}01.hdf" if match else f"{sample}.hdf"


def predicted_clefts(sample: Sample, crop: Crop | None = None, threshold: float | None = None) -> PredictedClefts:
    """Check what ``lightning predict`` has written of one volume; its mask is read once.

    Args:
        sample: Sample with the probability as image and the mask as its one label.
        crop: Part to be exported; the whole volume by default.
        threshold: Probability, above 0 up to 1, from which on a voxel is cleft; the mask as predicted by default.

    Raises:
        UserError: if it is no prediction of one foreground in 3D, if the crop does not lie inside, or if voxels in it
            are marked.
    """
    label = _mask_of(sample)
    z, y, x = label.shape
    crop = crop or Crop((0, 0, 0), (z, y, x))
    if any(first + size > side for first, size, side in zip(crop.first, crop.size, label.shape, strict=True)):
        raise UserError(
            f"{sample.key} has {label.shape} voxels, the crop of {crop.size} from {crop.first} (Z, Y, X) does not lie "
            "inside: give another --crop-first and --crop-size"
        )
    marked = sum(int(np.count_nonzero(band == IGNORE)) for band in _bands(label, crop))
    if marked:
        raise UserError(
            f"{sample.key}: {marked} voxels are marked as not predicted ({IGNORE} in {label.path}), since the network "
            "gave NaN or infinity there: predict again with sound weights, or export a part without them "
            "(--crop-first and --crop-size)"
        )
    if threshold is None:
        return PredictedClefts(sample.key, label, 1, crop, sample.pixel_size_nm)
    return PredictedClefts(sample.key, sample.image, level_of(threshold), crop, sample.pixel_size_nm)


def _mask_of(sample: Sample) -> ArrayRef:
    if len(sample.image.shape) != 3:
        raise UserError(f"{sample.key} is 2D ({sample.image.shape} px): CREMI's clefts are volumes (Z, Y, X)")
    if len(sample.labels) != 1 or "converter" in sample.provenance:
        raise UserError(
            f"{sample.key} is no prediction, its labels are {', '.join(sample.labels) or 'none'}: give the store that "
            "`lightning predict` wrote (--writer.out)"
        )
    label = next(iter(sample.labels.values()))
    info = label.info
    if info is None or info.kind == "instances" or len(info.classes) > 2:
        what = "ids" if info is None or info.kind == "instances" else f"classes {', '.join(info.classes.values())}"
        raise UserError(f"{label.what} has {what}: clefts are one foreground, as a network with one output predicts it")
    return label


def write_clefts(clefts: PredictedClefts, path: Path) -> int:
    """Write one file of the challenge, under a hidden name until it is complete; one that is there is replaced.

    ``volumes/labels/clefts`` is ``uint64 (Z, Y, X)``: 2^64 - 1 outside of clefts, in them ids from 1, one for each set
    of voxels that touch over faces, edges or corners (26 neighbours: sections are far apart, so that a slanting cleft
    moves on by whole voxels from one to the next). Attributes ``resolution`` and ``offset``, of the first voxel in the
    predicted volume, in nm. Mask and ids of the whole crop are in memory, 5 to 6 bytes a voxel.

    Args:
        clefts: Prediction that :func:`predicted_clefts` has checked.
        path: File to write; its folder exists.

    Returns:
        Number of clefts.

    Raises:
        UserError: if it cannot be written.
    """
    # As bytes: of boolean masks cc3d 4.1.1 finds wrong components over corners where the last side is odd.
    mask = np.empty(clefts.crop.size, np.uint8)
    for start, band in zip(range(0, len(mask), _SECTIONS), _bands(clefts.pixels, clefts.crop), strict=True):
        np.greater_equal(band, clefts.level, out=mask[start : start + len(band)].view(bool))
    found, number = cc3d.connected_components(mask, connectivity=26, out_dtype=np.uint32, return_N=True)
    ids: Ids = found.astype(np.uint32, copy=False)
    part = path.with_name(f".{path.name}.partial")
    try:
        with h5py.File(part, "w") as file:
            file.attrs["file_format"] = FILE_FORMAT
            chunk = tuple(min(usual, side) for usual, side in zip(_CHUNK, ids.shape, strict=True))
            target = file.create_dataset(DATASET, ids.shape, np.uint64, chunks=chunk, compression="gzip")
            target.attrs["resolution"] = np.array(clefts.voxel_nm)
            target.attrs["offset"] = np.array(clefts.crop.first) * np.array(clefts.voxel_nm)
            for start in range(0, len(ids), _SECTIONS):
                band = ids[start : start + _SECTIONS].astype(np.uint64)
                band[band == 0] = BACKGROUND
                target[start : start + _SECTIONS] = band
        part.replace(path)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return int(number)


def _bands(array: ArrayRef, crop: Crop) -> Iterator[NDArray[np.uint8]]:
    """The crop a few sections at a time."""
    z, y, x = (slice(first, first + size) for first, size in zip(crop.first, crop.size, strict=True))
    for start in range(z.start, z.stop, _SECTIONS):
        yield read(array, (slice(start, min(start + _SECTIONS, z.stop)), y, x))
