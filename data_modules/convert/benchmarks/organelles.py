"""Benchmarks of organelles: Guay et al. 2021, Perez et al. 2014 and UroCell (Žerovnik Mekuč et al. 2020)."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from data_modules.batch import IGNORE
from data_modules.convert.benchmarks.layout import by_number, find_root, match_numbers
from data_modules.convert.folder import parse_volume_pixel_size
from data_modules.convert.labels import CustomRule, Label, LabelRule
from data_modules.convert.samples import LabelSource, Rule, SampleSource, check_pixel_size, page_label, write_samples
from data_modules.errors import UserError, shorten
from data_modules.images.image import Image, Pixels, Region
from data_modules.images.pages import open_stack

GUAY_CLASSES = {
    0: "background",
    1: "cell",
    2: "mitochondrion",
    3: "alpha granule",
    4: "canalicular vessel",
    5: "dense granule",
    6: "dense granule core",
}
"""As the data set's own page and torch-em number them; CEM500K's configuration has the names of 3 and 4 swapped."""
GUAY_SPLITS = {"train": "train", "val": "eval", "test": "test"}
"""Beginning of the files' names."""


def convert_guay(root: Path, out: Path, pixel_size_nm: str = "40,10,10", overwrite: bool = False) -> list[str]:
    """Convert the platelets of Guay et al., three volumes with the label organelle of kind classes.

    The layout is that of platelet_data_1219.zip: {train,eval,test}-images.tif and -labels.tif of 16 bit, which become
    train, val and test. Images become 8 bit by the range of each volume. In test only some cells are annotated, so its
    background is ignored (CEM500K too scores only within annotated cells).

    Args:
        root: Folder that holds the six files, or the folder platelet_data with them.
        out: The store to write into, made where it does not exist.
        pixel_size_nm: Sides of a pixel as Z,Y,X in nanometers; the data set's page says approximately 40,10,10.
        overwrite: Replace samples of the same name.

    Returns:
        ``<split>/<sample>`` of everything written.

    Raises:
        UserError: if files are missing, truncated or of different shapes, or have other values; the message names them.
    """
    size = parse_volume_pixel_size(pixel_size_nm)
    needed = [f"{start}-{part}.tif" for start in GUAY_SPLITS.values() for part in ("images", "labels")]
    root = find_root(root, needed, ("platelet_data",), f"{', '.join(needed)} (platelet_data_1219.zip)")
    values = LabelRule("classes", classes=GUAY_CLASSES)
    samples = []
    for split, start in GUAY_SPLITS.items():
        rule: Rule = CustomRule(values.info, partial(_within_cells, values)) if split == "test" else values
        label = LabelSource("organelle", partial(open_stack, str(root / f"{start}-labels.tif"), True), rule)
        image = partial(open_stack, str(root / f"{start}-images.tif"))
        samples.append(SampleSource(split, "guay", image, size, (label,)))
    return write_samples(out, samples, "guay", "range", overwrite)


def _within_cells(rule: LabelRule, pixels: Pixels, what: str) -> Label:
    """As the rule, with 255 where it gives 0: background counts nowhere if only some cells are annotated."""
    label = rule.apply(pixels, what)
    label.pixels[label.pixels == 0] = IGNORE
    return Label(label.pixels, {**label.record, "rule": "values unchanged, 0 ignored"}, label.notes)


PEREZ_LABELS = {"lysosomes": "lysosome", "mitochondria": "mitochondrion", "nuclei": "nucleus", "nucleoli": "nucleolus"}
"""Name of the label by the folders' name."""
PEREZ_SPLITS = {"train": ("training_images", "training_labels"), "test": ("test_images", "ground_truth")}
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
        organelle: Name of the set; its label is lysosome, mitochondrion, nucleus or nucleolus.
        pixel_size_nm: Side of a pixel in nanometers; the files do not state it, and the sets were downsampled
            differently.
        overwrite: Replace samples of the same name.

    Returns:
        ``<split>/<sample>`` of everything written; samples are called by their numbers.

    Raises:
        UserError: if folders are missing, labels do not match images, or they are no masks; the message names them.
    """
    check_pixel_size(pixel_size_nm)
    folders = [f"{folder}/{organelle}" for pair in PEREZ_SPLITS.values() for folder in pair]
    root = find_root(
        root, folders, ("supplemental_data",), "training_images, training_labels, test_images, ground_truth"
    )
    rule = LabelRule("binary", "bright")
    size = (pixel_size_nm, pixel_size_nm)
    sources = []
    for split, (images, labels) in PEREZ_SPLITS.items():
        for number, image, label in match_numbers(
            by_number(root / images / organelle), by_number(root / labels / organelle)
        ):
            page = replace(image, source=f"{images}/{organelle}/{image.source}")
            mask = replace(label, source=f"{labels}/{organelle}/{label.source}")
            found = (page_label(PEREZ_LABELS[organelle], mask, rule),)
            sources.append(SampleSource(split, f"{number:04}", page.open, size, found))
    return write_samples(out, sources, "perez", overwrite=overwrite)


UROCELL_NM = (15.0, 16.47, 16.47)
"""Pixels of 5.49 nm were binned by 3 along X and Y; sections are 15 nm thick."""
UROCELL_VOLUMES = ("fib1-0-0-0", "fib1-1-0-3", "fib1-3-2-1", "fib1-3-3-0", "fib1-4-3-0")
"""Those with lysosomes and mitochondria."""
UROCELL_TEST = "fib1-0-0-0"
CUT_ROWS = {"fib1-0-0-0": 12, "fib1-1-0-3": 54}
"""First rows along Y without data (Conrad and Narayan 2021, "Benchmark segmentation tasks")."""
ANNOTATIONS: Mapping[str, Sequence[str]] = {
    "lysosome": ("lyso", "lyso/binary", "lyso/instance"),
    "mitochondrion": ("mito", "mito/binary", "mito/instance"),
    "golgi": ("golgi/precise", "golgi/precise/binary", "golgi/approximate", "golgi/approximate/binary"),
    "fusiform vesicle": ("fv", "fv/binary", "fv/instance"),
}
"""Where annotations have been in the versions of the repository, the first that has a volume counts."""


def convert_urocell(
    root: Path, out: Path, organelles: str = "lysosome,mitochondrion", overwrite: bool = False
) -> list[str]:
    """Convert UroCell as CEM500K uses it: fib1-0-0-0 for testing and four other volumes for training.

    The layout is that of the repository: data/NAME.nii.gz, and lyso, mito, golgi and fv with files of the same names,
    also in subfolders binary and instance. X, Y, Z becomes Z, Y, X; 12 and 54 rows along Y without data are cut off
    fib1-0-0-0 and fib1-1-0-3. The label organelle is of kind classes: 0 background, then the organelles in the order
    given; where two overlap, the later one counts.

    Args:
        root: Folder that holds data, lyso and mito.
        out: The store to write into, made where it does not exist.
        organelles: Any of lysosome, mitochondrion, golgi and fusiform vesicle, separated by commas. Volumes in which
            one of them is not annotated are left out.
        overwrite: Replace samples of the same name.

    Returns:
        ``<split>/<sample>`` of everything written.

    Raises:
        UserError: if files are missing, truncated or of different shapes; the message names them.
    """
    names = [name.strip() for name in organelles.split(",") if name.strip()]
    unknown = [name for name in names if name not in ANNOTATIONS]
    if unknown or not names or len(set(names)) < len(names):
        raise UserError(
            f"--organelles {organelles!r}: give any of {', '.join(ANNOTATIONS)}, each once, separated by commas"
        )
    needed = [f"data/{name}.nii.gz" for name in UROCELL_VOLUMES]
    root = find_root(root, needed, ("UroCell", "UroCell-master"), "data, lyso and mito of the UroCell repository")
    rule = LabelRule("classes", classes={0: "background", **dict(enumerate(names, 1))})
    samples, without = [], []
    for name in UROCELL_VOLUMES:
        places = [[root / folder / f"{name}.nii.gz" for folder in ANNOTATIONS[organelle]] for organelle in names]
        files = [next(filter(Path.is_file, found), None) for found in places]
        present = [file for file in files if file is not None]
        if len(present) < len(names):
            lacking = [organelle for organelle, file in zip(names, files, strict=True) if file is None]
            without.append(f"{name} ({', '.join(lacking)})")
            continue
        cut = CUT_ROWS.get(name, 0)
        label = LabelSource("organelle", partial(_merged, root, present, cut), rule)
        image = partial(_opened, root, root / "data" / f"{name}.nii.gz", cut)
        split = "test" if name == UROCELL_TEST else "train"
        samples.append(SampleSource(split, name, image, UROCELL_NM, (label,)))
    if {"train", "test"} - {sample.split for sample in samples}:
        raise UserError(
            f"{root} has no annotation for {shorten(without)}, so that train or test is empty: they should lie in the "
            f"folders {shorten([folders[0] for folders in ANNOTATIONS.values()])} under the names of data"
        )
    if without:
        warnings.warn(f"left out, since not annotated: {shorten(without)}", stacklevel=2)
    # Values are floating point of 0 to 255 in the files.
    return write_samples(out, samples, "urocell", "0,255", overwrite)


@contextmanager
def _opened(root: Path, file: Path, cut: int) -> Iterator[Image]:
    with open_stack(str(file)) as image:
        named = replace(image, record={**image.record, "source": file.relative_to(root).as_posix()})
        yield without_rows(named, cut) if cut else named


def without_rows(image: Image, rows: int) -> Image:
    """The image less its first ``rows`` rows along Y.

    Raises:
        UserError: if it has no more rows than that.
    """
    if rows >= (height := image.shape[1]):
        raise UserError(
            f"{image.what} has {height} rows, and the first {rows} are to be cut off: is it the whole file?"
        )
    return image.crop(row=rows, rows_cut_off=rows)


@contextmanager
def _merged(root: Path, files: Sequence[Path], cut: int) -> Iterator[Image]:
    """Annotations as one image of ``uint8``: 1 where the first has an object, 2 where the second has one, …."""
    with ExitStack() as opened:
        images = [opened.enter_context(_opened(root, file, cut)) for file in files]
        first = images[0]
        for image in images[1:]:
            if image.shape != first.shape:
                raise UserError(f"{image.what} is {image.shape} px but {first.what} is {first.shape}: copy them again")

        def fetch(region: Region) -> Pixels:
            merged = np.zeros([part.stop - part.start for part in region], np.uint8)
            for value, image in enumerate(images, 1):
                there = image.read(region) != 0
                if (merged[there] != 0).any():
                    warnings.warn(f"{image.what} overlaps another organelle, and counts there", stacklevel=2)
                merged[there] = value
            return merged

        record = {"sources": [image.record["source"] for image in images], "rows_cut_off": cut}
        what = ", ".join(image.what for image in images)
        yield replace(first, what=what, record=record, dtype=np.dtype(np.uint8), fetch=fetch)
