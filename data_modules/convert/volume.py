"""One volume, with or without a label, into a store as one sample."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from data_modules.convert.options import check_label_name, label_rule
from data_modules.convert.pairs import pair
from data_modules.convert.sources import find_images
from data_modules.convert.volume_axes import doubtful_axes
from data_modules.convert.volume_samples import VolumeLabel, VolumeSample, write_volumes
from data_modules.convert.volume_stacks import Source, Stack, only_sections, open_pages, open_stack
from data_modules.errors import UserError
from data_modules.tiling.units import parse_pixel_size


def convert_volume(
    image: str,
    out: Path,
    name: str,
    pixel_size_nm: str | None = None,
    split: str = "train",
    labels: str | None = None,
    label_name: str = "membrane",
    foreground: Literal["dark", "bright"] | None = None,
    kind: Literal["binary", "classes", "instances"] = "binary",
    classes: dict[int, str] | None = None,
    threshold: float | None = None,
    ignore_value: int | None = None,
    grey: str = "percentile",
    overwrite: bool = False,
    sections: str | None = None,
) -> list[str]:
    """Convert one volume, and its label where there is one, into one sample (Z, Y, X).

    Args:
        image: A folder of sections (natural order of their names), a TIFF stack, a NIfTI or MRC file, or
            FILE.h5:dataset; NIfTI's X, Y, Z becomes Z, Y, X.
        out: The store to write into, made where it does not exist.
        name: Of the sample.
        pixel_size_nm: Sides of a pixel as Z,Y,X in nanometers, such as 50,4.6,4.6; may be left out where the file
            states them.
        split: The sample goes to: train, val, test or any other name.
        labels: Where the label is, in any form that image takes; sections of two folders are matched by file name,
            others by their order.
        label_name: Name of the label in the store.
        foreground: Whether the object is dark or bright in the files; needed for binary labels.
        kind: What label values are: two extremes, classes, or ids of instances.
        classes: Names by value for classes, such as {0: background, 1: mitochondrion}; values 0 to 254.
        threshold: Binary label values above it are bright; half of the range by default.
        ignore_value: Label value that counts in no loss and no score.
        grey: How images of more than 8 bits become 8 bit: percentile (0.1 to 99.9 of the whole volume), range, dtype
            (full range of the integer type), or two values lo,hi that become 0 and 255.
        overwrite: Replace a sample of the same name.
        sections: Those to convert, numbered from 0, such as 0-12; all by default.

    Returns:
        ``<split>/<sample>`` of what was written.

    Raises:
        UserError: if files cannot be read or differ in shape, or their values do not fit; the message names them.
    """
    check_label_name(label_name)
    size, part = parse_volume_pixel_size(pixel_size_nm), _parse_sections(sections)
    rule = label_rule(labels, kind, foreground, classes, threshold, ignore_value)
    pixels = _only(part, partial(open_stack, image))
    with pixels() as stack:
        if stack.shape[0] == 1:
            raise UserError(f"{image} holds one section: convert it as a 2D image with `emseg data convert folder`")
        stated = size or stack.pixel_size_nm
        if stated is not None and (doubt := doubtful_axes(stack.shape, stated)):
            # A warning: a crop may have any shape.
            warnings.warn(f"{image}: {doubt}; it is written as it is", stacklevel=2)
    found: tuple[VolumeLabel, ...] = ()
    if labels is not None and rule is not None:
        found = (VolumeLabel(label_name, _only(part, _label_source(image, labels, rule.kind != "binary")), rule),)
    sample = VolumeSample(split, name, pixels, size, found)
    return write_volumes(out, [sample], "volume", grey, overwrite)


def _label_source(image: str, labels: str, as_values: bool) -> Source:
    """Opens the label: of two folders, in the order in which its names match those of the image."""
    if not (Path(image).is_dir() and Path(labels).is_dir()):
        return partial(open_stack, labels, as_values)
    return partial(open_pages, pair(find_images(image), find_images(labels)), Path(labels), as_values)


def _parse_sections(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    if (match := re.fullmatch(r"(\d+)-(\d+)", text.strip())) is None:
        raise UserError(f"--sections {text}: give the first and the last one, such as 0-12")
    return int(match[1]), int(match[2])


def _only(part: tuple[int, int] | None, source: Source) -> Source:
    return source if part is None else partial(_opened_part, source, *part)


@contextmanager
def _opened_part(source: Source, first: int, last: int) -> Iterator[Stack]:
    with source() as stack:
        yield only_sections(stack, first, last)


def parse_volume_pixel_size(text: str | None) -> tuple[float, float, float] | None:
    """Read ``50,4.6,4.6``, the sides of a pixel along Z, Y and X in nm.

    Raises:
        UserError: if these are not three positive numbers.
    """
    sizes = parse_pixel_size(text, "--pixel-size-nm") if text is not None else None
    if sizes is None:
        return None
    if len(sizes) != 3:
        raise UserError(f"--pixel-size-nm {text}: a volume needs Z,Y,X in nanometers, such as 50,4.6,4.6")
    return sizes[0], sizes[1], sizes[2]
