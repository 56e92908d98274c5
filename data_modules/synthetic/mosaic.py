"""Synthetic mosaics that look like serial-section electron micrographs of neural tissue, and stores of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.store import LabelInfo, SampleWriter
from data_modules.synthetic.organelles import make_artefacts, place_organelles
from data_modules.synthetic.tissue import SmoothField, Tissue

# Rows drawn at a time. Noise is seeded per strip, so this is part of the content.
_STRIP = 256
_MEMBRANE = np.float32(0.16)
_TEXTURE = ((7.0, 0.8), (22.0, 0.5), (80.0, 0.35))
_GAIN = ((6000.0, 0.10), (1500.0, 0.04))
_OFFSET = ((4000.0, 0.05), (700.0, 0.015))
_NOISE = np.float32(0.06)


@dataclass(frozen=True)
class SyntheticMosaic:
    """Mosaic of electron-microscopy style with its membrane mask, drawn strip by strip.

    Cells of a broad range of sizes are separated by membranes of varying width and contrast. Mitochondria, vesicles,
    endoplasmic reticulum and dense bodies are as dark as membranes but not in the mask. Texture, staining, noise,
    folds, knife marks and dirt are added. The content depends on the attributes alone. Sizes are physical: another
    pixel size over the same area in nm shows the same kind of tissue.

    Attributes:
        shape: Height and width in px, at least 1.
        seed: Random seed of everything, at least 0.
        pixel_size_nm: Side of a pixel in nm, above 0.
        membrane_width_nm: Width of a membrane cut at a right angle in nm; 10 nm gives about 6 % membrane.
        organelles: Whether cells hold organelles.
        artefacts_per_1000um2: Expected number each of folds, knife marks and dirt particles.

    Raises:
        ValueError: if the shape or the pixel size is not positive.
    """

    shape: tuple[int, int]
    seed: int
    pixel_size_nm: float = 2.18
    membrane_width_nm: float = 10.0
    organelles: bool = True
    artefacts_per_1000um2: float = 3.0

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ValueError(f"shape must be at least 1 x 1 px, got {self.shape}")
        if self.pixel_size_nm <= 0:
            raise ValueError(f"pixel_size_nm must be positive, got {self.pixel_size_nm}")

    def strips(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Draw consecutive strips of 256 rows, the last of which may be lower, from top to bottom.

        Yields:
            Image, ``uint8 (h, X)``, and membrane mask, ``uint8 (h, X)`` with 1 for membranes and 0 for all else.
        """
        pixel = self.pixel_size_nm
        height, width = self.shape
        extent = (height * pixel, width * pixel)
        # One stream per part: a change of one parameter leaves the other parts as they were.
        of_tissue, of_organelles, of_artefacts, of_imaging = (np.random.default_rng([self.seed, n]) for n in range(4))
        tissue = Tissue(extent, self.membrane_width_nm, of_tissue)
        organelles = place_organelles(tissue, extent, of_organelles) if self.organelles else []
        artefacts = make_artefacts(extent, self.artefacts_per_1000um2, of_artefacts)
        cytoplasm = of_imaging.permutation(np.linspace(0.53, 0.80, tissue.cells, dtype=np.float32))
        roughness = (0.05 * of_imaging.uniform(0.6, 1.5, tissue.cells)).astype(np.float32)
        texture, gain, offset = (SmoothField(extent, octaves, of_imaging) for octaves in (_TEXTURE, _GAIN, _OFFSET))
        spans = [np.array([curve.span_nm for curve in curves]).reshape(-1, 2) for curves in (organelles, artefacts)]
        x = (np.arange(width) + 0.5) * pixel
        for number, top in enumerate(range(0, height, _STRIP)):
            y = (np.arange(top, min(top + _STRIP, height)) + 0.5) * pixel
            shown = [np.flatnonzero((span[:, 0] < y[-1]) & (span[:, 1] > y[0])) for span in spans]
            cell, darkness, mask = tissue.membranes(y, x, pixel)
            grey = texture(y, x) * roughness[cell] + cytoplasm[cell]
            for index in shown[0]:
                organelles[index].draw(grey, top, pixel)
            grey += darkness * (_MEMBRANE - grey)
            for index in shown[1]:
                artefacts[index].draw(grey, top, pixel)
            grey = grey * (1 + gain(y, x)) + offset(y, x)
            grey += _NOISE * np.random.default_rng([self.seed, 4, number]).standard_normal(grey.shape, np.float32)
            yield (grey.clip(0, 1) * 255).astype(np.uint8), mask


def synthesize(
    out: Path,
    train: Sequence[str] = ("4096x4096",),
    val: Sequence[str] = ("2048x2048",),
    test: Sequence[str] = ("2048x2048", "2048x2048"),
    pixel_size_nm: float = 2.18,
    seed: int = 0,
    overwrite: bool = False,
) -> list[str]:
    """Make a store of EM-like mosaics with membranes, organelles, vesicles, noise and staining gradients.

    Args:
        out: Path of the store.
        train: Size of each training mosaic, ``<Y>x<X>`` in px.
        val: Size of each validation mosaic.
        test: Size of each test mosaic.
        pixel_size_nm: Size of a pixel along Y and X in nm.
        seed: Random seed, from which every mosaic gets its own.
        overwrite: Whether existing samples are replaced.

    Returns:
        Keys ``<split>/<sample>``.

    Raises:
        UserError: for a size that cannot be read, or a sample that exists.
    """
    wanted = [
        (split, f"synthetic-{index}", parse_size(size))
        for split, sizes in (("train", train), ("val", val), ("test", test))
        for index, size in enumerate(sizes)
    ]
    with tqdm(total=sum(y * x for _, _, (y, x) in wanted) / 1e6, desc="synthesize", unit="Mpx", disable=None) as bar:
        for number, (split, name, shape) in enumerate(wanted):
            mosaic = SyntheticMosaic(shape, seed=1000 * seed + number, pixel_size_nm=pixel_size_nm)
            provenance = {"source": "synthetic", "seed": mosaic.seed}
            with SampleWriter(out, split, name, shape, (pixel_size_nm,) * 2, provenance, overwrite) as sample:
                mask = sample.add_label("membrane", LabelInfo("binary"), provenance=provenance)
                for image_rows, mask_rows in mosaic.strips():
                    sample.image.write(image_rows)
                    mask.write(mask_rows)
                    bar.update(image_rows.size / 1e6)
    return [f"{split}/{name}" for split, name, _ in wanted]


def parse_size(size: str) -> tuple[int, int]:
    """Read ``<Y>x<X>``.

    Raises:
        UserError: if it is something else.

    >>> parse_size("9958x9959")
    (9958, 9959)
    """
    sides = size.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise UserError(f"{size!r} is no size: write <rows>x<columns> in px, e.g. 9958x9959")
    return int(sides[0]), int(sides[1])
