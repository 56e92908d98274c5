"""Small copies of the transfer benchmarks' published layouts, written with the formats' own libraries."""

from pathlib import Path

import h5py
import nibabel
import numpy as np
import tifffile

from tests.support.convert_checks import Pixels, save

BACKGROUND = 2**64 - 1
"""Of CREMI's clefts."""


def grey(seed: int, shape: tuple[int, ...]) -> Pixels:
    return np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8)


def blobs(seed: int, shape: tuple[int, ...], share: float = 0.2) -> Pixels:
    """``True`` where objects are."""
    return np.random.default_rng(seed).random(shape) < share


def casser(root: Path, train: int = 3, test: int = 2, outside: bool = False) -> dict[str, tuple[Pixels, Pixels]]:
    """Lucchi++ and Kasthuri++: images and masks as saved, by split."""
    saved = {}
    for seed, (split, count) in enumerate({"Train": train, "Test": test}.items()):
        shape = (count, 12, 16)
        image, mask = grey(seed, shape), np.where(blobs(seed + 9, shape), 255, 0).astype(np.uint8)
        if outside:
            image[:, :, :3], mask[:, :, :3] = 0, 2
        for number in range(count):
            save(root / f"{split}_In" / f"mask{number:04}.png", image[number])
            save(root / f"{split}_Out" / f"{number}.png", np.repeat(mask[number][..., None], 3, axis=-1))
        saved[split.lower()] = image, mask
    return saved


def perez(root: Path, organelle: str, names: tuple[int, ...] = (3, 12)) -> dict[str, Pixels]:
    """Masks by ``<split>/<number>``; images and labels share nothing but the number."""
    masks = {}
    for split, images, labels in (
        ("train", "training_images", "training_labels"),
        ("test", "test_images", "ground_truth"),
    ):
        for number in names:
            mask = blobs(number, (14, 10))
            save(root / images / organelle / f"{split}_orig.{number:03}.png", grey(number, (14, 10)))
            save(root / labels / organelle / f"{split}_label.{number:03}.png", mask.astype(np.uint8) * np.uint8(255))
            masks[f"{split}/{number:04}"] = mask
    return masks


def guay(root: Path) -> dict[str, tuple[Pixels, Pixels]]:
    """Signed images and unsigned labels of 16 bit, by the beginning of the names."""
    root.mkdir(parents=True, exist_ok=True)
    saved = {}
    for seed, (name, depth) in enumerate({"train": 5, "eval": 3, "test": 34}.items()):
        generator = np.random.default_rng(seed)
        image = generator.integers(-2000, 3000, (depth, 9, 11)).astype(np.int16)
        labels = generator.integers(0, 7, (depth, 9, 11)).astype(np.uint16)
        tifffile.imwrite(root / f"{name}-images.tif", image, photometric="minisblack")
        tifffile.imwrite(root / f"{name}-labels.tif", labels, photometric="minisblack")
        saved[name] = image, labels
    return saved


UROCELL = ("fib1-0-0-0", "fib1-1-0-3", "fib1-3-2-1", "fib1-3-3-0", "fib1-4-3-0")


def urocell(root: Path) -> dict[str, tuple[Pixels, Pixels, Pixels]]:
    """Image, lysosomes and mitochondria ``(X, Y, Z)`` by volume; some annotations lie in subfolders."""
    saved = {}
    for seed, name in enumerate(UROCELL):
        shape = (7, 60, 5)
        image = grey(seed, shape).astype(np.float32)
        kinds = np.random.default_rng(seed + 50).integers(0, 4, shape)
        lysosomes, mitochondria = (kinds == 1).astype(np.uint8), np.where(kinds == 2, kinds + seed, 0).astype(np.uint16)
        nifti(root / "data" / f"{name}.nii.gz", image)
        nifti(root / ("lyso/binary" if seed == 1 else "lyso") / f"{name}.nii.gz", lysosomes)
        nifti(root / ("mito/instance" if seed == 2 else "mito") / f"{name}.nii.gz", mitochondria)
        saved[name] = image, lysosomes, mitochondria
    return saved


def nifti(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(pixels, np.eye(4)).to_filename(path)


def cremi(path: Path, seed: int, padding: tuple[int, int, int] = (0, 0, 0)) -> tuple[Pixels, Pixels, Pixels]:
    """Raw volume, clefts and neurons of one file; labels begin at ``padding`` voxels in the raw volume."""
    shape = (4, 10, 12)
    raw = grey(seed, tuple(side + 2 * pad for side, pad in zip(shape, padding, strict=True)))
    clefts = np.where(blobs(seed, shape), 7, BACKGROUND).astype(np.uint64)
    clefts[0, 0, :2] = 2**64 - 2, 2**64 - 3
    clefts[0, 0, 2:4] = BACKGROUND
    neurons = np.random.default_rng(seed).integers(1, 2**40, shape).astype(np.uint64)
    neurons[0, 0, 0] = 2**64 - 3
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["volumes/raw"] = raw
        file["volumes/labels/clefts"] = clefts
        file["volumes/labels/neuron_ids"] = neurons
        for name in ("volumes/raw", "volumes/labels/clefts", "volumes/labels/neuron_ids"):
            file[name].attrs["resolution"] = [40.0, 4.0, 4.0]
        if any(padding):
            for name in ("clefts", "neuron_ids"):
                offset = [pad * side for pad, side in zip(padding, (40.0, 4.0, 4.0), strict=True)]
                file[f"volumes/labels/{name}"].attrs["offset"] = offset
    return raw, clefts, neurons
