"""Organelles of Perez et al. (2014, https://doi.org/10.3389/fnana.2014.00126): four sets of 2D images."""

import dataclasses
from pathlib import Path
from typing import Literal

from data_modules.convert.benchmarks.layout import by_number, find_root, match_numbers
from data_modules.convert.labels import LabelRule
from data_modules.convert.samples import LabelSource, SampleSource, check_pixel_size, write_samples

LABELS = {"lysosomes": "lysosome", "mitochondria": "mitochondrion", "nuclei": "nucleus", "nucleoli": "nucleolus"}
"""Name of the label by the folders' name."""
SPLITS = {"train": ("training_images", "training_labels"), "test": ("test_images", "ground_truth")}
"""Folders of images and labels."""


def convert_perez(
    root: Path,
    out: Path,
    organelle: Literal["lysosomes", "mitochondria", "nuclei", "nucleoli"],
    pixel_size_nm: float,
    overwrite: bool = False,
) -> list[str]:
    """Convert one of the four sets of Perez et al.; give each a store of its own.

    The layout is that of chm-supplemental_data.zip: training_images, training_labels, test_images and ground_truth,
    each with a folder of the organelle and PNG files in it, PREFIX.NUMBER.png, of which only the number is the same for
    image and label. Labels are binary: the object is bright. Test images have labels for some of their objects only.

    Args:
        root: Folder that holds these four, or the folder supplemental_data with them.
        out: The store to write into, made where it does not exist.
        organelle: Which set; its label is lysosome, mitochondrion, nucleus or nucleolus.
        pixel_size_nm: Side of a pixel in nanometers; the files do not state it, and the sets were downsampled
            differently.
        overwrite: Replace samples of the same name.

    Returns:
        ``<split>/<sample>`` of everything written; samples are called by their numbers.

    Raises:
        UserError: if folders are missing, labels do not match images, or they are no masks; the message names them.
    """
    check_pixel_size(pixel_size_nm)
    folders = [f"{folder}/{organelle}" for pair in SPLITS.values() for folder in pair]
    root = find_root(
        root, folders, ("supplemental_data",), "training_images, training_labels, test_images, ground_truth"
    )
    rule = LabelRule("binary", "bright")
    size = (pixel_size_nm, pixel_size_nm)
    sources = []
    for split, (images, labels) in SPLITS.items():
        for number, image, label in match_numbers(
            by_number(root / images / organelle), by_number(root / labels / organelle)
        ):
            page = dataclasses.replace(image, name=f"{number:04}", source=f"{images}/{organelle}/{image.source}")
            mask = dataclasses.replace(label, source=f"{labels}/{organelle}/{label.source}")
            sources.append(SampleSource(split, page, size, (LabelSource(LABELS[organelle], mask, rule),)))
    return write_samples(out, sources, "perez", overwrite=overwrite)
