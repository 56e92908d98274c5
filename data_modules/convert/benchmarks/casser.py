"""Lucchi++ and Kasthuri++ (Casser et al. 2020, https://arxiv.org/abs/1812.06024): four folders of PNG sections."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image

from data_modules.convert.benchmarks.layout import by_number, find_root, match_numbers
from data_modules.convert.labels import LabelRule
from data_modules.convert.samples import LabelSource, SampleSource, write_samples
from data_modules.errors import UserError, shorten
from data_modules.images.image import Image, Pixels, refusing, to_bytes
from data_modules.images.pages import Page, stack_pages

SPLITS = {"train": ("Train_In", "Train_Out"), "test": ("Test_In", "Test_Out")}
"""Folders of images and labels."""
WHITE = 254
"""Threshold of the masks: only 255 is mitochondrion, as in CEM500K's own preparation."""


def volumes(
    root: Path, title: str, published: Mapping[str, int], size: tuple[float, float, float], rule: LabelRule
) -> list[SampleSource]:
    """Both volumes of a data set, with the binary label mitochondrion.

    Args:
        root: Folder with ``Train_In``, ``Train_Out``, ``Test_In`` and ``Test_Out``, or with the folder ``title`` that
            holds them.
        title: Name of the data set, such as ``Lucchi++``; the sample's name is the first word in lower case.
        published: Number of sections by split; another is said and used nevertheless.
        size: Sides of a pixel, ``(Z, Y, X)`` in nm.
        rule: Meaning of the masks' values.

    Raises:
        UserError: if folders or sections are missing, or labels do not match images.
    """
    folders = [name for pair in SPLITS.values() for name in pair]
    root = find_root(root, folders, (title,), f"the folders {', '.join(folders)} of {title}, with PNG sections")
    samples = []
    for split, (image_folder, label_folder) in SPLITS.items():
        pairs = match_numbers(by_number(root / image_folder), by_number(root / label_folder))
        numbers = [number for number, _, _ in pairs]
        if lacking := [str(n) for n in range(numbers[0], numbers[-1]) if n not in numbers]:
            raise UserError(f"{root / image_folder} lacks the sections {shorten(lacking)}: is the download complete?")
        if len(pairs) != published[split]:
            warnings.warn(
                f"{root / image_folder} has {len(pairs)} images, {published[split]} were published: is the download "
                "complete?",
                stacklevel=2,
            )
        image = partial(_opened, root / image_folder, [image for _, image, _ in pairs], False)
        label = partial(_opened, root / label_folder, [label for _, _, label in pairs], True)
        name = title.rstrip("+").lower()
        samples.append(SampleSource(split, name, image, size, (LabelSource("mitochondrion", label, rule),)))
    return samples


@contextmanager
def _opened(folder: Path, pages: list[Page], is_mask: bool) -> Iterator[Image]:
    yield stack_pages(pages, folder, read=_read_mask if is_mask else None)


def _read_mask(page: Page) -> Pixels:
    """A mask that may be drawn on a transparent layer: what is fully transparent is 0."""
    with refusing(page.path), PIL.Image.open(page.path) as image:
        if image.mode != "RGBA":
            return to_bytes(page.read(), 255)
        image.load()
        layers = np.asarray(image)
    if not (layers[..., :1] == layers[..., 1:3]).all():
        raise UserError(f"{page.what} has real colour: masks are grey, with 255 for mitochondria")
    return np.where(layers[..., 3] == 0, np.uint8(0), layers[..., 0])


LUCCHI_NM = (5.0, 5.0, 5.0)
LUCCHI_SECTIONS = {"train": 165, "test": 165}


def convert_lucchi(root: Path, out: Path, overwrite: bool = False) -> list[str]:
    """Convert Lucchi++ (165 sections of 768 × 1024 px for training and for testing each, 5 nm isotropic).

    Sections Train_In/mask0000.png, … are matched with Train_Out/0.png, … by number and become train/lucchi with the
    binary label mitochondrion (255 in the files); Test_In and Test_Out become test/lucchi.

    Args:
        root: Folder that holds Train_In, Train_Out, Test_In and Test_Out, or the folder Lucchi++ with them.
        out: The store to write into, made where it does not exist.
        overwrite: Replace samples of the same name.

    Returns:
        ``<split>/<sample>`` of everything written.

    Raises:
        UserError: if folders or sections are missing, or labels do not match images; the message names them.
    """
    rule = LabelRule("binary", "bright", threshold=WHITE)
    return write_samples(
        out, volumes(root, "Lucchi++", LUCCHI_SECTIONS, LUCCHI_NM, rule), "lucchi", overwrite=overwrite
    )


KASTHURI_NM = (30.0, 3.0, 3.0)
KASTHURI_SECTIONS = {"train": 85, "test": 75}
OUTSIDE = 2
"""Value of the masks where there is no tissue but black padding."""


def convert_kasthuri(root: Path, out: Path, overwrite: bool = False) -> list[str]:
    """Convert Kasthuri++ (85 sections of 1463 × 1613 px for training, 75 of 1334 × 1553 px for testing).

    Sections of Train_In and Train_Out are matched by number and become train/kasthuri with the binary label
    mitochondrion (255 in the files); Test_In and Test_Out become test/kasthuri. The black padding around the tissue
    (2 in the masks) is ignored; CEM500K's own preparation counts it as background.

    Args:
        root: Folder that holds Train_In, Train_Out, Test_In and Test_Out, or the folder Kasthuri++ with them.
        out: The store to write into, made where it does not exist.
        overwrite: Replace samples of the same name.

    Returns:
        ``<split>/<sample>`` of everything written.

    Raises:
        UserError: if folders or sections are missing, or labels do not match images; the message names them.
    """
    rule = LabelRule("binary", "bright", threshold=WHITE, ignore_value=OUTSIDE)
    samples = volumes(root, "Kasthuri++", KASTHURI_SECTIONS, KASTHURI_NM, rule)
    return write_samples(out, samples, "kasthuri", overwrite=overwrite)
