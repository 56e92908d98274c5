"""Files in CREMI's layout, stores as `lightning predict` writes them, and the challenge's own distances."""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from data_modules.store import LabelInfo, MosaicStore, MosaicView, SampleWriter
from lightning_emseg.inference.prediction_store import PredictionStore
from lightning_emseg.inference.stitching import StitchedRows

VOXEL_NM = (40.0, 4.0, 4.0)
NOTHING = 0xFFFFFFFFFFFFFFFF
"""Background of the challenge's clefts."""

Pixels = NDArray[np.uint8]
Ids = NDArray[np.uint64]


def blobs(seed: int, shape: tuple[int, ...], share: float = 0.1) -> NDArray[np.bool_]:
    """``True`` in a few connected parts."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0.7, 2, 2))
    found: NDArray[np.bool_] = field > np.quantile(field, 1 - share)
    return found


def write_file(path: Path, raw: Pixels, clefts: Ids | None = None, first: tuple[int, ...] = (0, 0, 0)) -> Path:
    """One file of CREMI; clefts begin at voxel ``first`` of the raw volume."""
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "0.2"
        file["volumes/raw"] = raw
        file["volumes/raw"].attrs["resolution"] = VOXEL_NM
        if clefts is not None:
            file["volumes/labels/clefts"] = clefts
            file["volumes/labels/clefts"].attrs["resolution"] = VOXEL_NM
            if any(first):
                offset = [place * side for place, side in zip(first, VOXEL_NM, strict=True)]
                file["volumes/labels/clefts"].attrs["offset"] = offset
    return path


def clefts_in(path: Path) -> Ids:
    """The dataset of clefts as it is."""
    with h5py.File(path, "r") as file:
        found: Ids = file["volumes/labels/clefts"][:]
    return found


def write_images(store: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Grey volumes or images without labels, by ``<split>/<sample>``."""
    for key, shape in shapes.items():
        split, name = key.split("/")
        with SampleWriter(store, split, name, shape, VOXEL_NM[-len(shape) :]) as sample:
            sample.image.write(np.zeros(shape, np.uint8))


def write_prediction(
    data: Path,
    out: Path,
    probabilities: Mapping[str, Pixels],
    level: int = 128,
    invalid: Mapping[str, NDArray[np.bool_]] | None = None,
    classes: tuple[str, ...] = (),
) -> None:
    """The store that a prediction of ``data`` with these probabilities is, by the class that writes it."""
    opened = MosaicStore(data)
    views = [MosaicView.of(opened.sample(key), None) for key in probabilities]
    store = PredictionStore(out, views, "cleft", [{"checkpoint": "best.ckpt"}] * len(views), classes=classes)
    store.begin("owner", store.survey(), {index: [(0, view.shape[0])] for index, view in enumerate(views)})
    for index, (key, probability) in enumerate(probabilities.items()):
        marked = (invalid or {}).get(key)
        rows = StitchedRows(index, 0, torch.from_numpy(probability), last=True)
        rows.invalid = None if marked is None else torch.from_numpy(marked)
        rows.classes = torch.from_numpy((probability >= level).astype(np.uint8)) if classes else None
        store.write(rows, level)
    store.wait()
    store.finish()


def write_truth(store: Path, key: str, mask: Pixels) -> None:
    """A data set's sample, as converters make it."""
    split, name = key.split("/")
    writer = SampleWriter(store, split, name, mask.shape, VOXEL_NM, {"converter": "cremi"})
    with writer as sample:
        label = sample.add_label("cleft", LabelInfo("binary"))
        sample.image.write(np.zeros(mask.shape, np.uint8))
        label.write(mask)


class CleftsOfTheChallenge:
    """What ``cremi.evaluation.Clefts`` of cremi_python computes, from the two datasets alone."""

    def __init__(self, test: Ids, truth: Ids) -> None:
        self.test_background, self.truth_background = test == NOTHING, truth == NOTHING
        self.to_test = distance_transform_edt(self.test_background, sampling=VOXEL_NM)
        self.to_truth = distance_transform_edt(self.truth_background, sampling=VOXEL_NM)

    def false_positives(self) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.to_truth[~self.test_background]
        return found

    def false_negatives(self) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.to_test[~self.truth_background]
        return found
