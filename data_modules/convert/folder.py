"""Folders, stacks and volumes of images, with or without labels, into a store."""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from data_modules.convert.labels import Foreground, LabelRule
from data_modules.convert.samples import LabelSource, SampleSource, check_pixel_size, page_label, write_samples
from data_modules.errors import UserError
from data_modules.images.image import Image, doubtful_axes, parse_pixel_size
from data_modules.images.pages import find_images, open_stack, pair, stack_pages
from data_modules.store import LabelKind


def label_rule(
    name: str,
    labels: str | None,
    kind: LabelKind,
    foreground: Foreground | None,
    classes: Mapping[int, str] | None,
    threshold: float | None,
    ignore_value: int | None,
) -> LabelRule | None:
    """How labels are to be understood, ``None`` where there are none.

    Args:
        name: Name of the label in the store.
        labels: Files of the labels.
        kind: Kind of the label, see :class:`~data_modules.convert.labels.LabelRule`.
        foreground: Side of a mask that is the object.
        classes: Names by value.
        threshold: Binary values above it are bright.
        ignore_value: Value that counts nowhere.

    Raises:
        UserError: if the options do not fit together, there are some without labels, or the name cannot be a label's.
    """
    if not name or "/" in name or name.startswith("."):
        raise UserError(f"--label-name {name!r} cannot name a label: no slashes and no leading dot, please")
    if labels is not None:
        return LabelRule(kind, foreground, classes or {}, threshold, ignore_value)
    given = {"foreground": foreground, "classes": classes, "threshold": threshold, "ignore-value": ignore_value}
    if useless := [f"--{flag}" for flag, value in given.items() if value is not None]:
        raise UserError(f"{', '.join(useless)} says how to read labels, but there is no --labels")
    return None


def convert_folder(
    images: str,
    out: Path,
    pixel_size_nm: float,
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
) -> list[str]:
    """Convert images, and their labels where there are any, into samples of one split.

    Args:
        images: A folder of PNG, JPEG, TIFF, MRC and NIfTI files, one such file (every page becomes a sample), or
            FILE.h5:dataset (2D, or 3D as a stack of sections).
        out: The store to write into, made where it does not exist.
        pixel_size_nm: Side of a pixel in nanometers.
        split: The samples go to: train, val, test or any other name.
        labels: Labels, in any form that images takes; matched by file name, pages by number.
        label_name: Name of the label in the store.
        foreground: Whether the object is dark or bright in the files; needed for binary labels.
        kind: Meaning of label values: two extremes, classes, or ids of instances.
        classes: Names by value for classes, such as {0: background, 1: mitochondrion}; values 0 to 254.
        threshold: Binary label values above it are bright; half of the range by default.
        ignore_value: Label value that counts in no loss and no score.
        grey: How images of more than 8 bits become 8 bit: percentile (0.1 to 99.9 of each image), range, dtype (full
            range of the integer type), or two values lo,hi that become 0 and 255.
        overwrite: Replace samples of the same name.

    Returns:
        ``<split>/<sample>`` of everything written.

    Raises:
        UserError: if files cannot be read or matched, or their values do not fit; the message names them.
    """
    check_pixel_size(pixel_size_nm)
    rule = label_rule(label_name, labels, kind, foreground, classes, threshold, ignore_value)
    pages = find_images(images)
    found: list[tuple[LabelSource, ...]] = [() for _ in pages]
    if labels is not None and rule is not None:
        found = [(page_label(label_name, page, rule),) for page in pair(pages, find_images(labels))]
    size = (pixel_size_nm, pixel_size_nm)
    sources = [SampleSource(split, page.name, page.open, size, label) for page, label in zip(pages, found, strict=True)]
    return write_samples(out, sources, "folder", grey, overwrite)


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
        name: Name of the sample.
        pixel_size_nm: Sides of a pixel as Z,Y,X in nanometers, such as 50,4.6,4.6; may be left out where the file
            states them.
        split: The sample goes to: train, val, test or any other name.
        labels: Label, in any form that image takes; sections of two folders are matched by file name,
            others by their order.
        label_name: Name of the label in the store.
        foreground: Whether the object is dark or bright in the files; needed for binary labels.
        kind: Meaning of label values: two extremes, classes, or ids of instances.
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
    size, part = parse_volume_pixel_size(pixel_size_nm), _parse_sections(sections)
    rule = label_rule(label_name, labels, kind, foreground, classes, threshold, ignore_value)
    source = partial(_open_part, image, None, part)
    with source() as opened:
        if opened.shape[0] == 1:
            raise UserError(f"{image} holds one section: convert it as a 2D image with `emseg data convert folder`")
        stated = size or opened.pixel_size_nm
        if stated is not None and (doubt := doubtful_axes(opened.shape, stated)):
            # A warning: a crop may have any shape.
            warnings.warn(f"{image}: {doubt}; it is written as it is", stacklevel=2)
    found: tuple[LabelSource, ...] = ()
    if labels is not None and rule is not None:
        labelled = partial(_open_part, labels, image, part, rule.kind != "binary")
        found = (LabelSource(label_name, labelled, rule),)
    return write_samples(out, [SampleSource(split, name, source, size, found)], "volume", grey, overwrite)


@contextmanager
def _open_part(
    spec: str, partners: str | None, part: tuple[int, int] | None, as_values: bool = False
) -> Iterator[Image]:
    """Open a volume, or the part of it that was asked for.

    Of two folders, the label's sections come in the order in which their names match those of the image, ``partners``.
    """
    with ExitStack() as opened:
        if partners is not None and Path(partners).is_dir() and Path(spec).is_dir():
            pages = pair(find_images(partners), find_images(spec))
            image = stack_pages(pages, Path(spec), as_values)
        else:
            image = opened.enter_context(open_stack(spec, as_values))
        if part is not None:
            first, last = part
            depth = image.shape[0]
            if not 0 <= first <= last < depth:
                raise UserError(f"{image.what} has the sections 0-{depth - 1}, and not {first}-{last}: give others")
            image = image.crop(first, last + 1, only_sections=[first, last])
        yield image


def _parse_sections(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    if (match := re.fullmatch(r"(\d+)-(\d+)", text.strip())) is None:
        raise UserError(f"--sections {text}: give the first and the last one, such as 0-12")
    return int(match[1]), int(match[2])


def parse_volume_pixel_size(
    text: str | None, option: str = "--pixel-size-nm", example: str = "50,4.6,4.6"
) -> tuple[float, float, float] | None:
    """Read ``50,4.6,4.6``, the sides of a pixel along Z, Y and X in nm.

    Raises:
        UserError: if these are not three positive numbers.
    """
    sizes = parse_pixel_size(text, option) if text is not None else None
    if sizes is None:
        return None
    if len(sizes) != 3:
        raise UserError(f"{option} {text}: a volume needs Z,Y,X in nanometers, such as {example}")
    return sizes[0], sizes[1], sizes[2]
