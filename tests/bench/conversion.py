"""``emseg data convert`` of one large PNG with its label, against decoding both and writing the pixels as they are."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.convert.folder import convert_folder
from tests.bench.harness import Row, interleave, median, peak_of, synthetic_image, synthetic_mask

SHAPE = (9958, 9959)
REPEATS = 5


def rows(scratch: Path) -> Iterator[Row]:
    """Time and peak memory."""
    for folder, pixels in (("images", synthetic_image(SHAPE)), ("labels", 255 * synthetic_mask(SHAPE))):
        (scratch / folder).mkdir()
        Image.fromarray(pixels).save(scratch / folder / "a.png", compress_level=6)
    number = itertools.count()
    candidates: dict[str, Callable[[], object]] = {
        "ours": lambda: convert(scratch, f"{next(number)}.zarr"),
        "raw": lambda: decode(scratch),
    }
    seconds = interleave(candidates, REPEATS)
    ours, raw = median(seconds["ours"]), median(seconds["raw"])
    what = f"`emseg data convert folder`, one {SHAPE[0]} × {SHAPE[1]} PNG with label"
    against = "decoding both PNGs with Pillow and writing raw files"
    yield Row("conversion", f"{what}, pyramids and counts included", ours, "s", against, ours / raw)
    idle, ours, raw = (peak_of(function, scratch).peak_mib for function in (nothing, convert, decode))
    yield Row(
        "conversion",
        f"{what}, peak memory",
        ours,
        "MiB",
        f"{against}, each beyond an idle process",
        (ours - idle) / (raw - idle),
        note=f"an idle process has {idle:.0f} MiB, the pixels have {2 * SHAPE[0] * SHAPE[1] / 2**20:.0f} MiB",
    )


def nothing(scratch: Path) -> None:
    """What a process takes that has only imported this module."""
    assert scratch.is_dir()


def convert(scratch: Path, name: str = "memory.zarr") -> None:
    """What the command does, without the start of its process."""
    convert_folder(str(scratch / "images"), scratch / name, 4.0, labels=str(scratch / "labels"), foreground="bright")


def decode(scratch: Path) -> None:
    """The least that any conversion has to do."""
    Image.MAX_IMAGE_PIXELS = None
    for folder in ("images", "labels"):
        with Image.open(scratch / folder / "a.png") as picture:
            np.asarray(picture).tofile(scratch / f"{folder}.raw")
