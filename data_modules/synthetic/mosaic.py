"""Synthetic mosaics that look like serial-section electron micrographs of neural tissue, and stores of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.store import LabelInfo, SampleWriter
from data_modules.synthetic.cells import CellLattice, CellSeeds
from data_modules.synthetic.imaging import Imaging
from data_modules.synthetic.membranes import MembranePainter
from data_modules.synthetic.organelles import Densities, place_organelles
from data_modules.synthetic.shapes import Canvas

Band = tuple[NDArray[np.uint8], NDArray[np.uint8]]

# Rows drawn at a time. Noise is seeded per strip, so this is part of the content.
_STRIP = 256
# Number of the random stream of the pixel noise; the streams before it are used up front.
_PIXEL_NOISE = 5


@dataclass(frozen=True)
class SyntheticMosaic:
    """A mosaic of electron-microscopy style with its membrane mask, drawn band by band.

    Cells of a broad range of sizes are separated by membranes of varying width and contrast. Mitochondria,
    vesicles, endoplasmic reticulum and dense bodies are as dark as membranes but not in the mask. Texture,
    staining, noise, folds, knife marks and dirt are added. The content depends on the fields alone. Sizes
    are physical: another pixel size over the same area in nm shows the same kind of tissue.

    Raises:
        ValueError: the shape, the pixel size or a range of diameters is not positive or not ascending.

    Attributes:
        shape: size Y X, px, both ≥ 1.
        seed: seed of everything random, ≥ 0.
        pixel_size_nm: side of a pixel, nm, > 0.
        large_cell_nm: smallest and largest diameter of somata and thick neurites, nm.
        small_cell_nm: smallest and largest diameter of thin processes, nm. Neighbours are sometimes joined.
        large_cell_cover: area of the large cells tried, as a share of the mosaic; not all of them fit.
        membrane_width_nm: width of a membrane cut at a right angle, nm; 10 nm gives ≈ 5 % membrane.
        oblique_widening: how many times wider the most obliquely cut membranes are, ≥ 1.
        membrane_contrast: darkness of the faintest and the strongest membrane, each in [0, 1].
        mitochondria_per_um2: mitochondria per µm² (fewer where they do not fit).
        dense_bodies_per_um2: dense bodies per µm².
        cisterns_per_um2: lines of endoplasmic reticulum per µm².
        vesicle_clusters_per_um2: clusters of vesicles per µm².
        texture: standard deviation of the cytoplasm's granular texture, grey values from 0 to 1.
        noise: standard deviation of the pixel noise, grey values from 0 to 1.
        artefacts_per_1000um2: expected number each of folds, knife marks and dirt particles.
    """

    shape: tuple[int, int]
    seed: int
    pixel_size_nm: float = 2.18
    large_cell_nm: tuple[float, float] = (800.0, 2400.0)
    small_cell_nm: tuple[float, float] = (180.0, 500.0)
    large_cell_cover: float = 0.35
    membrane_width_nm: float = 10.0
    oblique_widening: float = 2.2
    membrane_contrast: tuple[float, float] = (0.1, 1.0)
    mitochondria_per_um2: float = 0.8
    dense_bodies_per_um2: float = 0.12
    cisterns_per_um2: float = 5.0
    vesicle_clusters_per_um2: float = 0.5
    texture: float = 0.05
    noise: float = 0.06
    artefacts_per_1000um2: float = 3.0

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ValueError(f"shape must be at least 1 x 1 px, got {self.shape}")
        if self.pixel_size_nm <= 0:
            raise ValueError(f"pixel_size_nm must be positive, got {self.pixel_size_nm}")
        for name, (low, high) in (("large_cell_nm", self.large_cell_nm), ("small_cell_nm", self.small_cell_nm)):
            if not 0 < low < high:
                raise ValueError(f"{name} must be two ascending positive diameters, got {(low, high)}")

    def bands(self, height: int = 1024) -> Iterator[Band]:
        """Draw consecutive bands of rows from top to bottom.

        Args:
            height: rows per band, px, ≥ 1; the last band may be lower. It does not alter the content.

        Yields:
            Image, uint8 (h, X), and membrane mask, uint8 (h, X) with 1 = membrane and 0 = background.

        Raises:
            ValueError: the height is below 1.
        """
        if height < 1:
            raise ValueError(f"height must be at least 1 px, got {height}")
        image, mask = (np.empty((height, self.shape[1]), np.uint8) for _ in range(2))
        filled = 0
        renderer = _Renderer(self)
        for index in range(-(-self.shape[0] // _STRIP)):
            strip_image, strip_mask = renderer.strip(index)
            used = 0
            while used < len(strip_image):
                rows = min(height - filled, len(strip_image) - used)
                image[filled : filled + rows] = strip_image[used : used + rows]
                mask[filled : filled + rows] = strip_mask[used : used + rows]
                filled, used = filled + rows, used + rows
                if filled == height:
                    yield image, mask
                    image, mask = np.empty_like(image), np.empty_like(mask)
                    filled = 0
        if filled:
            yield image[:filled], mask[:filled]


class _Renderer:
    """Everything computed once per mosaic, and the drawing of strips of a fixed height.

    Args:
        mosaic: the mosaic to draw.
    """

    def __init__(self, mosaic: SyntheticMosaic) -> None:
        self._mosaic = mosaic
        pixel = mosaic.pixel_size_nm
        extent = (mosaic.shape[0] * pixel, mosaic.shape[1] * pixel)
        # One stream per part: a change of one parameter leaves the other parts as they were.
        rngs = [np.random.default_rng([mosaic.seed, stream]) for stream in range(_PIXEL_NOISE)]
        seeds = CellSeeds.sample(extent, mosaic.large_cell_nm, mosaic.small_cell_nm, mosaic.large_cell_cover, rngs[0])
        reach = mosaic.membrane_width_nm / 2 * mosaic.oblique_widening + 2
        self._lattice = CellLattice(mosaic.shape, pixel, seeds, reach, rngs[1])
        self._membranes = MembranePainter(
            self._lattice,
            mosaic.membrane_width_nm,
            mosaic.oblique_widening,
            mosaic.membrane_contrast,
            extent,
            rngs[2],
        )
        densities = Densities(
            mosaic.mitochondria_per_um2,
            mosaic.dense_bodies_per_um2,
            mosaic.cisterns_per_um2,
            mosaic.vesicle_clusters_per_um2,
        )
        self._organelles = place_organelles(self._lattice, densities, rngs[3])
        self._imaging = Imaging(
            extent,
            pixel,
            len(seeds.centres),
            mosaic.texture,
            mosaic.noise,
            mosaic.artefacts_per_1000um2,
            rngs[4],
        )

    def strip(self, index: int) -> Band:
        """Draw one strip.

        Args:
            index: number of the strip from the top, from 0.

        Returns:
            Image and mask, uint8 (h, X); h is 256 px, or less in the last strip.
        """
        rows = _STRIP // self._lattice.block
        top = index * _STRIP
        membranes = self._membranes.strip(index * rows, min((index + 1) * rows, self._lattice.label.shape[0]))
        # The lattice consists of whole blocks, which may reach past the mosaic.
        inside = slice(0, self._mosaic.shape[0] - top), slice(0, self._mosaic.shape[1])
        grey = self._imaging.cytoplasm(membranes.label[inside], top)
        self._draw_organelles(Canvas(grey, top, self._mosaic.pixel_size_nm))
        noise = np.random.default_rng([self._mosaic.seed, _PIXEL_NOISE, index])
        return self._imaging.expose(grey, membranes.darkness[inside], top, noise), membranes.mask[inside]

    def _draw_organelles(self, canvas: Canvas) -> None:
        """Draw the organelles that touch the strip."""
        top = canvas.top * canvas.pixel_size_nm
        bottom = top + canvas.grey.shape[0] * canvas.pixel_size_nm
        for shape in self._organelles:
            first, last = shape.span_nm
            if first < bottom and last > top:
                shape.draw(canvas)


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
        pixel_size_nm: Along Y and X.
        seed: Every mosaic gets its own from this one.
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
                for image_rows, mask_rows in mosaic.bands():
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
