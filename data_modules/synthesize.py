"""Stores of synthetic mosaics."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.store import LabelInfo, SampleWriter
from data_modules.synthetic import SyntheticMosaic


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
