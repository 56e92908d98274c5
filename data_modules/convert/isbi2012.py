"""The ISBI 2012 stack of ssTEM membranes, as a folder of sections or as the TIFF stacks of the challenge."""

import dataclasses
import re
import warnings
from pathlib import Path

from data_modules.convert.labels import LabelRule
from data_modules.convert.samples import SampleSource, page_label, write_samples
from data_modules.errors import UserError, shorten
from data_modules.images.pages import Page, find_images, pair

PIXEL_SIZE_NM = (4.0, 4.0)
HELD_OUT = {20: {"val": "12-14", "test": "15-19"}, 30: {"val": "17-19", "test": "20-29"}}
"""Default sections by number of sections; of 30, 20 train and 10 test, and the last three for training validate."""


def convert_isbi2012(
    root: Path,
    out: Path,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    labels: str = "",
    overwrite: bool = False,
) -> list[str]:
    """Convert the ISBI 2012 membrane stack (4 nm pixels; membranes are dark in the files).

    Two layouts are known: train/images/NN.png with train/membranes/NN.png and test/images/NN.png; or
    train-volume.tif with train-labels.tif and test-volume.tif.

    Args:
        root: Folder of the data set. Its unlabelled test images, where present, become the split challenge, beside
            train, val and test.
        out: The store to write into, made where it does not exist.
        train: Sections for training such as 0-11 or 0,2,5-9; an empty text for none. By default all that neither val
            nor test have: 0-16 of 30 sections (as in the challenge protocol), 0-11 of 20.
        val: Sections for validation; by default 17-19 of 30 and 12-14 of 20, less what train and test are given.
        test: Sections for testing; by default 20-29 of 30 and 15-19 of 20, less what train and val are given.
        labels: Further labels, as ids of objects, from train/trakem2_NAME.tif, such as synapses,mitochondria.
        overwrite: Replace samples of the same name.

    Returns:
        ``<split>/<sample>`` of everything written.

    Raises:
        UserError: if files are missing, a section is in two splits, or a range does not fit.
    """
    sections, masks = _labelled(root)
    extra = {name.strip(): _extra(root, name.strip(), len(sections)) for name in labels.split(",") if name.strip()}
    splits = choose_sections(len(sections), {"train": train, "val": val, "test": test})
    membrane, instances = LabelRule("binary", "dark"), LabelRule("instances")
    sources = []
    for split, chosen in splits.items():
        for section in chosen:
            found = [page_label("membrane", masks[section], membrane)]
            found += [page_label(name, pages[section], instances) for name, pages in extra.items()]
            image = sections[section]
            sources.append(SampleSource(split, image.name, image.open, PIXEL_SIZE_NM, tuple(found)))
    present = [place for place in ("test/images", "test-volume.tif") if (root / place).exists()]
    challenge = _pages(root, present[0]) if present else []
    sources += [SampleSource("challenge", page.name, page.open, PIXEL_SIZE_NM) for page in challenge]
    return write_samples(out, sources, "isbi2012", overwrite=overwrite)


def choose_sections(count: int, given: dict[str, str | None]) -> dict[str, list[int]]:
    """Settle which section goes to which split.

    Args:
        count: Number of sections.
        given: Range by split; ``None`` for the default less what the others are given.

    Returns:
        Sections by split, in the order of ``given``.

    Raises:
        UserError: if a section is in two splits or does not exist, or there is no default for so many sections.
    """
    chosen = {split: _parse(text, split, count) for split, text in given.items() if text is not None}
    if not {"val", "test"} <= set(chosen) and count not in HELD_OUT:
        raise UserError(f"there are {count} sections, not 20 or 30: give --val and --test, such as --val 8,9 --test 10")
    claimed = [section for sections in chosen.values() for section in sections]
    if twice := sorted({section for section in claimed if claimed.count(section) > 1}):
        raise UserError(f"sections {twice} are in two of --train, --val and --test: a section may be in one only")
    for split in ("val", "test"):
        if split not in chosen:
            chosen[split] = [s for s in _parse(HELD_OUT[count][split], split, count) if s not in claimed]
    chosen.setdefault("train", [s for s in range(count) if s not in chosen["val"] and s not in chosen["test"]])
    used = {section for sections in chosen.values() for section in sections}
    if unused := [str(section) for section in range(count) if section not in used]:
        warnings.warn(f"sections in no split, not converted: {shorten(unused)}", stacklevel=2)
    return {split: chosen[split] for split in given}


def _parse(text: str, split: str, count: int) -> list[int]:
    sections: list[int] = []
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match:
            sections += range(int(match[1]), int(match[2] or match[1]) + 1)
        if part and (not match or not sections or sections[-1] >= count or int(match[2] or match[1]) < int(match[1])):
            raise UserError(f"--{split} {text!r}: give sections from 0 to {count - 1}, such as 0-9 or 0,2,5-7")
    return sections


def _labelled(root: Path) -> tuple[list[Page], list[Page]]:
    for images, masks in (("train/images", "train/membranes"), ("train-volume.tif", "train-labels.tif")):
        if (root / images).exists():
            sections = _pages(root, images)
            return sections, pair(sections, _pages(root, masks))
    raise UserError(f"{root} has neither train/images nor train-volume.tif: give the folder that holds one of them")


def _extra(root: Path, name: str, count: int) -> list[Page]:
    place = next((p for p in (f"train/trakem2_{name}.tif", f"trakem2_{name}.tif") if (root / p).is_file()), None)
    if place is None:
        known = sorted(path.stem.removeprefix("trakem2_") for path in root.rglob("trakem2_*.tif"))
        raise UserError(f"{root} has no train/trakem2_{name}.tif; --labels can be: {shorten(known) or 'none'}")
    pages = _pages(root, place)
    if len(pages) != count:
        raise UserError(f"{root / place} has {len(pages)} pages for {count} sections: they have to be as many")
    return pages


def _pages(root: Path, place: str) -> list[Page]:
    """Pages of a folder or stack, named 00, 01, … in both layouts, with sources relative to the root."""
    pages = find_images(str(root / place))
    return [
        dataclasses.replace(
            page,
            name=page.path.stem if page.number is None else f"{page.number:02}",
            source=page.path.relative_to(root).as_posix(),
        )
        for page in pages
    ]
