"""Which of the real micrographs the chain of ``transfer_chain.py`` takes, and the tables that it says about them."""

import csv
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDERS: Mapping[str, tuple[str, str]] = {
    "cardiac_mito_emnet/train/images": ("", "MIT"),
    "isbi2012/train/images": ("4,4", "non-commercial testing of segmentation software"),
    "vnc_sstem/stack1/raw": ("4.6,4.6", "CC BY-NC-SA 3.0"),
    "vnc_sstem/stack2/raw": ("4.6,4.6", "CC BY-NC-SA 3.0"),
    "sbem_mito_cdeep3m/training/images": ("", "non-profit use"),
    "epta_synapses/images": ("", "MIT"),
    "cremi2d_membrane/images": ("", "MIT"),
    "sem_myelin_ads/images": ("", "MIT"),
    "cem_examples/images": ("", "BSD-3-Clause"),
    "cem_examples/unlabelled": ("", "BSD-3-Clause"),
    "em_patches/tiles": ("", "as its manifest says"),
    "fib25_medulla/raw.tif": ("10,10,10", "CC BY"),
    "gala_fibsem/train_raw.tif": ("", "HHMI BSD-style"),
    "gala_fibsem/test_raw.tif": ("", "HHMI BSD-style"),
}
"""Pixel size in nm, Z first, where it is known, and licence."""

MITOCHONDRIA = {"train": "012", "val": "3", "test": "5"}
"""Sections by split; of section 4 there are no labels."""
MEMBRANES = {"train": "0-11", "val": "12-14", "test": "15-19"}

_PATCHES = "em_patches"
_UNINFORMATIVE = ("low_info", "occluded_or_odd", "blank")
_COLUMNS = ("source", "tile", "label")


@dataclass(frozen=True)
class TransferSet:
    """What an encoder is transferred to.

    Attributes:
        name: Of the set, of its store and of its experiment.
        label: That is learnt.
    """

    name: str
    label: str


def lay_out_raw(data: Path, raw: Path, table: Path) -> None:
    """Copy what may be pretrained on, and write what is known of it for `emseg curate tile --sources`.

    Args:
        data: Folder of the data sets.
        raw: Copied into.
        table: Written last.
    """
    left_out = set(_tested_patches(data))
    for folder in FOLDERS:
        path = data / folder
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            name = file.relative_to(data).as_posix()
            if name in left_out or _is_tested(folder, file.stem):
                continue
            (raw / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, raw / name)
    _write(table, ("file", "pixel_size_nm", "licence"), ((name, *about) for name, about in FOLDERS.items()))


def _is_tested(folder: str, stem: str) -> bool:
    if folder.startswith("cardiac"):
        return stem[-1] == MITOCHONDRIA["test"]
    first = int(MEMBRANES["test"].split("-")[0])
    return folder.startswith("isbi2012") and int(stem) >= first


def _tested_patches(data: Path) -> Iterator[str]:
    """Tiles cut from sections that are tested on, or from the test sections without labels of the same two stacks."""
    for row in _rows(data / _PATCHES / "manifest.csv"):
        origin = Path(row["origin_file"])
        unlabelled = origin.parent.name.lower() == "test"
        tested = origin.stem[-1] == MITOCHONDRIA["test"] and row["source"].startswith("cardiac")
        if row["source"].startswith(("cardiac", "isbi")) and (unlabelled or tested):
            yield f"{_PATCHES}/{row['file']}"


def label_tiles(data: Path, tiles: Path) -> None:
    """Write ``labels.csv`` into the set, as `emseg curate label` would if somebody labelled all of ``em_patches``.

    Uninformative are tiles that were chosen for it, by a low standard deviation, by an occlusion or as blank.

    Args:
        data: Folder of the data sets.
        tiles: The tile set, deduplicated.
    """
    kinds = {row["file"]: row["kind"] for row in _rows(data / _PATCHES / "manifest.csv")}
    names = {row["source"]: row["file"].partition(f"{_PATCHES}/")[2] for row in _rows(tiles / "tile.csv")}
    kept = [(row, names[row["source"]]) for row in _rows(tiles / "dedup.csv") if row["kept"] == "1"]
    labels = (
        (row["source"], row["tile"], "uninformative" if kinds[name] in _UNINFORMATIVE else "informative")
        for row, name in kept
        if name in kinds
    )
    _write(tiles / "labels.csv", _COLUMNS, labels)


def label_probe(packed: Path, tiles: Path, table: Path) -> None:
    """Write which data set each packed tile is of, for the probes; ``em_patches`` is of many, and without a label.

    Args:
        packed: The packed set.
        tiles: That it was made of.
        table: Written.
    """
    sets = {row["source"]: row["file"].split("/")[1] for row in _rows(tiles / "tile.csv") if row["status"] == "tiled"}
    rows = (row for row in _rows(packed / "pack.csv") if row["kept"] == "1" and sets[row["source"]] != _PATCHES)
    _write(table, _COLUMNS, ((row["source"], row["packed_tile"], sets[row["source"]]) for row in rows))


def lay_out_mitochondria(data: Path, out: Path) -> Mapping[str, Path]:
    """Copy the four quadrants of each section to folders of their splits.

    Args:
        data: Folder of the data sets.
        out: Copied into.

    Returns:
        Folder with ``images`` and ``labels`` by split.
    """
    for split, sections in MITOCHONDRIA.items():
        for kind, folder in (("images", "images"), ("labels", "mito")):
            (out / split / kind).mkdir(parents=True, exist_ok=True)
            for section in sections:
                for file in (data / "cardiac_mito_emnet" / "train" / folder).glob(f"?{section}.png"):
                    shutil.copyfile(file, out / split / kind / file.name)
    return {split: out / split for split in MITOCHONDRIA}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> None:
    # Under another name until it is complete, as a table that is there is taken for done.
    part = path.with_name(f".{path.name}.partial")
    with part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    part.replace(path)
