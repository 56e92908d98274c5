"""Finding the parts of a published data set below the folder that a user gives."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_modules.errors import UserError, shorten
from data_modules.images.pages import Page, find_images


def find_root(root: Path, needed: Sequence[str], inner: Sequence[str], layout: str) -> Path:
    """The folder that holds all parts: the one given, or one inside that archives unpack to.

    Args:
        root: Folder that the user gave.
        needed: Names of files or folders that it has to hold.
        inner: Names of folders to try too.
        layout: Layout of a complete folder, for the message.

    Raises:
        UserError: naming what is missing.
    """
    candidates = [root, *(root / name for name in inner)]
    for folder in candidates:
        if all((folder / name).exists() for name in needed):
            return folder
    best = max(candidates, key=lambda folder: sum((folder / name).exists() for name in needed))
    missing = [name for name in needed if not (best / name).exists()]
    raise UserError(f"{best} has no {shorten(missing)}: --root should hold {layout}")


def by_number(folder: Path) -> dict[int, Page]:
    """Images of a folder by the last number in their names, in ascending order.

    Raises:
        UserError: if a name has no number or two have the same.
    """
    pages: dict[int, Page] = {}
    for page in find_images(str(folder)):
        digits = re.findall(r"\d+", page.name)
        if not digits:
            raise UserError(f"{page.what} has no number in its name: images and labels are matched by it")
        number = int(digits[-1])
        if number in pages:
            raise UserError(f"{page.what} and {pages[number].what} have the same number: remove one of them")
        pages[number] = page
    return dict(sorted(pages.items()))


def match_numbers(images: Mapping[int, Page], labels: Mapping[int, Page]) -> list[tuple[int, Page, Page]]:
    """Images and labels of the same number.

    Raises:
        UserError: naming what has no partner.
    """
    for these, those, what in ((images, labels, "images without a label"), (labels, images, "labels without an image")):
        if alone := [page.what for number, page in these.items() if number not in those]:
            raise UserError(f"{what}: {shorten(alone)}; they are matched by the last number in their names")
    return [(number, page, labels[number]) for number, page in images.items()]
