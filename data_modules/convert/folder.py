"""Any folder, stack or HDF5 dataset of images, with or without labels, into a store."""

from pathlib import Path
from typing import Literal

from data_modules.convert.options import check_label_name, label_rule
from data_modules.convert.pairs import pair
from data_modules.convert.samples import LabelSource, SampleSource, check_pixel_size, write_samples
from data_modules.convert.sources import find_images


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
        images: A folder of PNG, JPEG and TIFF files, one such file (every page of a TIFF becomes a sample), or
            FILE.h5:dataset (2D, or 3D as a stack of sections).
        out: The store to write into, made where it does not exist.
        pixel_size_nm: Side of a pixel in nanometers.
        split: The samples go to: train, val, test or any other name.
        labels: Where the labels are, in any form that images takes; matched by file name, pages by number.
        label_name: Name of the label in the store.
        foreground: Whether the object is dark or bright in the files; needed for binary labels.
        kind: What label values are: two extremes, classes, or ids of instances.
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
    check_label_name(label_name)
    pages = find_images(images)
    found: list[tuple[LabelSource, ...]] = [() for _ in pages]
    rule = label_rule(labels, kind, foreground, classes, threshold, ignore_value)
    if labels is not None and rule is not None:
        found = [(LabelSource(label_name, page, rule),) for page in pair(pages, find_images(labels))]
    size = (pixel_size_nm, pixel_size_nm)
    sources = [SampleSource(split, page, size, label) for page, label in zip(pages, found, strict=True)]
    return write_samples(out, sources, "folder", grey, overwrite)
