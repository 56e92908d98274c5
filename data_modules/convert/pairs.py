"""Finding the label of every image by name."""

from collections.abc import Sequence

from data_modules.convert.sources import Page, shorten
from data_modules.errors import UserError


def pair(images: Sequence[Page], labels: Sequence[Page]) -> list[Page]:
    """Find the label of every image.

    Files match by equal stems, pages of a stack by number. Where stems differ, what all images have in common at both
    ends is left away, and likewise for the labels: ``raw_01``, ``raw_02`` match ``01_mask``, ``02_mask``. One file of
    images matches one file of labels whatever their names.

    Returns:
        One label an image, in the order of the images.

    Raises:
        UserError: if an image has no label or a label no image, naming them.
    """
    by_key = {(page.stem, page.number): page for page in labels}
    partner = _match_stems({page.stem for page in images}, {page.stem for page in labels})
    found = [by_key.get((partner.get(page.stem, page.stem), page.number)) for page in images]
    alone = [page.what for page, label in zip(images, found, strict=True) if label is None]
    if alone:
        raise UserError(f"images without a label: {shorten(alone)}; labels are matched by file name and page")
    used = {id(label) for label in found}
    if unused := [page.what for page in labels if id(page) not in used]:
        raise UserError(f"labels without an image: {shorten(unused)}; labels are matched by file name and page")
    return [label for label in found if label is not None]


def _match_stems(images: set[str], labels: set[str]) -> dict[str, str]:
    if images == labels:
        return {}
    if len(images) == len(labels) == 1:
        return {images.pop(): labels.pop()}
    cores = {core: stem for stem, core in _without_affixes(labels).items()}
    stripped = _without_affixes(images)
    if len(cores) == len(labels) and sorted(cores) == sorted(stripped.values()):
        return {stem: cores[core] for stem, core in stripped.items()}
    return {}


def _without_affixes(stems: set[str]) -> dict[str, str]:
    """Cut off what all stems begin and end with, but never inside a number (``s10``, ``s11`` keep 10 and 11)."""
    before = len(_common_start(stems).rstrip("0123456789"))
    after = len(_common_start({stem[before:][::-1] for stem in stems}).rstrip("0123456789"))
    return {stem: stem[before : len(stem) - after] for stem in stems}


def _common_start(texts: set[str]) -> str:
    # What the first and the last in order share, all between them share too.
    first, last = min(texts), max(texts)
    same = (index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return first[: next(same, min(len(first), len(last)))]
