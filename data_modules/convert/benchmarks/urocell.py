"""UroCell (Žerovnik Mekuč et al. 2020, https://doi.org/10.1016/j.compbiomed.2020.103693): organelles in FIB-SEM."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from data_modules.convert.benchmarks.layout import find_root
from data_modules.convert.decode import Pixels
from data_modules.convert.labels import LabelRule
from data_modules.convert.sources import shorten
from data_modules.convert.volume_samples import VolumeLabel, VolumeSample, write_volumes
from data_modules.convert.volume_stacks import Stack, open_stack, without_rows
from data_modules.errors import UserError

PIXEL_SIZE_NM = (15.0, 16.47, 16.47)
"""Pixels of 5.49 nm were binned by 3 along X and Y; sections are 15 nm thick."""
VOLUMES = ("fib1-0-0-0", "fib1-1-0-3", "fib1-3-2-1", "fib1-3-3-0", "fib1-4-3-0")
"""Those with lysosomes and mitochondria."""
TEST = "fib1-0-0-0"
CUT_ROWS = {"fib1-0-0-0": 12, "fib1-1-0-3": 54}
"""First rows along Y without data (Conrad and Narayan 2021, "Benchmark segmentation tasks")."""
FOLDERS: Mapping[str, Sequence[str]] = {
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
    names = _organelles(organelles)
    needed = [f"data/{name}.nii.gz" for name in VOLUMES]
    root = find_root(root, needed, ("UroCell", "UroCell-master"), "data, lyso and mito of the UroCell repository")
    rule = LabelRule("classes", classes={0: "background", **dict(enumerate(names, 1))})
    samples, without = [], []
    for name in VOLUMES:
        files = {organelle: _annotation(root, organelle, name) for organelle in names}
        if lacking := [organelle for organelle, file in files.items() if file is None]:
            without.append(f"{name} ({', '.join(lacking)})")
            continue
        cut = CUT_ROWS.get(name, 0)
        present = [file for file in files.values() if file is not None]
        label = VolumeLabel("organelle", partial(_merged, root, present, cut), rule)
        image = partial(_opened, root, root / "data" / f"{name}.nii.gz", cut)
        split = "test" if name == TEST else "train"
        samples.append(VolumeSample(split, name, image, PIXEL_SIZE_NM, (label,)))
    _check_left_out(root, without, [sample.split for sample in samples])
    # Values are floating point of 0 to 255 in the files.
    return write_volumes(out, samples, "urocell", "0,255", overwrite)


def _organelles(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in FOLDERS]
    if unknown or not names or len(set(names)) < len(names):
        raise UserError(f"--organelles {text!r}: give any of {', '.join(FOLDERS)}, each once, separated by commas")
    return names


def _annotation(root: Path, organelle: str, name: str) -> Path | None:
    files = (root / folder / f"{name}.nii.gz" for folder in FOLDERS[organelle])
    return next((file for file in files if file.is_file()), None)


def _check_left_out(root: Path, without: Sequence[str], splits: Sequence[str]) -> None:
    if {"train", "test"} - set(splits):
        raise UserError(
            f"{root} has no annotation for {shorten(without)}, so that train or test is empty: they should lie in the "
            f"folders {shorten([FOLDERS[organelle][0] for organelle in FOLDERS])} under the names of data"
        )
    if without:
        warnings.warn(f"left out, since not annotated: {shorten(without)}", stacklevel=3)


@contextmanager
def _opened(root: Path, file: Path, cut: int) -> Iterator[Stack]:
    with open_stack(str(file)) as stack:
        named = replace(stack, record={**stack.record, "source": file.relative_to(root).as_posix()})
        yield without_rows(named, cut) if cut else named


@contextmanager
def _merged(root: Path, files: Sequence[Path], cut: int) -> Iterator[Stack]:
    """Annotations as one stack of ``uint8``: 1 where the first has an object, 2 where the second has one, …."""
    with ExitStack() as opened:
        stacks = [opened.enter_context(_opened(root, file, cut)) for file in files]
        first = stacks[0]
        for stack in stacks[1:]:
            if stack.shape != first.shape:
                raise UserError(f"{stack.what} is {stack.shape} px but {first.what} is {first.shape}: copy them again")

        def read(start: int, stop: int) -> Pixels:
            merged = np.zeros((stop - start, *first.shape[1:]), np.uint8)
            for value, stack in enumerate(stacks, 1):
                there = stack.read(start, stop) != 0
                if (merged[there] != 0).any():
                    warnings.warn(f"{stack.what} overlaps another organelle, and counts there", stacklevel=2)
                merged[there] = value
            return merged

        record = {"sources": [stack.record["source"] for stack in stacks], "rows_cut_off": cut}
        what = ", ".join(stack.what for stack in stacks)
        yield Stack(what, record, first.shape, np.dtype(np.uint8), read, first.pixel_size_nm)
