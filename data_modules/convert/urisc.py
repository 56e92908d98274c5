"""U-RISC as it is released: two tracks, official splits, three rounds of annotation."""

import filecmp
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from data_modules.convert.labels import LabelRule
from data_modules.convert.samples import LabelSource, SampleSource, check_pixel_size, page_label, write_samples
from data_modules.convert.shrink import Shrink
from data_modules.errors import UserError, shorten
from data_modules.images.pages import Page, find_images_below

SPLITS = ("train", "val", "test")
ORIGINALS = "Track2_original_size"
TRACKS = ("Track1", "Track2", ORIGINALS)
MOSAIC_SHAPE = (9958, 9959)
"""Height and width in px of the scans before Track 2 was downsampled."""
ROUNDS = {"membrane_1st": "1st", "membrane_2nd": "2nd"}
_RULE = LabelRule("binary", "dark")


def convert_urisc(
    root: Path,
    out: Path,
    track: Literal[1, 2] = 1,
    from_original: bool = False,
    pixel_size_nm: float = 2.18,
    size: int = 1024,
    downsample: Literal["box", "lanczos", "bicubic", "nearest"] = "box",
    label_share: float = 0.25,
    overwrite: bool = False,
) -> list[str]:
    """Convert one track of U-RISC; membranes are dark in the files and 1 in the store.

    Images come from imgs/Track1 or imgs/Track2, below train, val and test; without these folders all images go to the
    split all. Labels are found by file name anywhere below label and Human_Annotation_Process/{1st,2nd,final}: of
    several, the one whose folders resemble the image's most. They become membrane (from label, else from final),
    membrane_1st and membrane_2nd. Training and validation images need a label, others may lack it.

    Args:
        root: Folder that holds imgs and label.
        out: The store to write into, made where it does not exist.
        track: 1 (original size) or 2 (downsampled).
        from_original: Make the images of Track 2 from imgs/Track2_original_size instead of taking those of imgs/Track2.
        pixel_size_nm: Side of a pixel of the original scans in nanometers; that of Track 2 follows from the sizes.
        size: Height and width in px of images made with from_original.
        downsample: Filter for these images; box is the mean over an area.
        label_share: A pixel of a downsampled mask is membrane if at least this share of its area is; at 0.25,
            membranes of 5 px stay connected (at 0.5 most of them vanish).
        overwrite: Replace samples of the same name.

    Returns:
        ``<split>/<sample>`` of everything written.

    Raises:
        UserError: if folders or labels are missing, ambiguous or of another size; the message names them.
    """
    check_pixel_size(pixel_size_nm)
    if from_original and track != 2:
        raise UserError("--from-original makes Track 2 from the original scans: pass --track 2 with it")
    images = _images(root, ORIGINALS if from_original else f"Track{track}")
    originals = root / "imgs" / ORIGINALS
    shapes = {}
    if track == 2 and not from_original and originals.is_dir():
        shapes = {page.stem: page.shape() for page in find_images_below(originals, root)}
    labels = _find_labels(root, images)
    sources = []
    for split, page in images:
        shape = page.shape()
        shrink = None
        if track == 2:
            original = shape if from_original else shapes.get(page.stem, MOSAIC_SHAPE)
            shrink = Shrink(original, (size, size) if from_original else shape, downsample, label_share)
        y, x = (1.0, 1.0) if shrink is None else (o / t for o, t in zip(shrink.original, shrink.target, strict=True))
        side = (pixel_size_nm * y, pixel_size_nm * x)
        sources.append(SampleSource(split, page.name, page.open, side, labels[split, page], shrink))
    return write_samples(out, sources, "urisc", overwrite=overwrite)


def _images(root: Path, track: str) -> list[tuple[str, Page]]:
    folder = root / "imgs" / track
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist: give the folder that holds imgs and label as --root")
    present = [split for split in SPLITS if (folder / split).is_dir()]
    images = [(split, page) for split in present for page in find_images_below(folder / split, root)]
    inside = {page.path for _, page in images}
    loose = [page for page in find_images_below(folder, root) if page.path not in inside]
    if not present:
        released = _released_splits(root) if track == ORIGINALS else {}
        images = [(released.get(page.stem, "all"), page) for page in loose]
    elif loose:
        warnings.warn(f"in none of {present}, not converted: {shorten([page.source for page in loose])}", stacklevel=2)
    if not images:
        raise UserError(f"{folder} holds no images: check the download")
    return _without_leaks(images)


def _released_splits(root: Path) -> dict[str, str]:
    """Split of every image of the downsampled Track 2, for originals that lie in one folder.

    Raises:
        UserError: if a name is in two splits, so that it does not tell where its original belongs.
    """
    splits: dict[str, str] = {}
    for split in SPLITS:
        for page in find_images_below(root / "imgs" / "Track2" / split, root):
            if page.stem in splits:
                raise UserError(f"imgs/Track2 has {page.stem} in {splits[page.stem]} and in {split}: keep one of them")
            splits[page.stem] = split
    return splits


def _without_leaks(images: list[tuple[str, Page]]) -> list[tuple[str, Page]]:
    """Leave out training images that are in val or test too: 10 of the 30 for training are those for validation."""
    held_out = {(page.stem, split): page for split, page in images if split != "train"}
    kept = []
    for split, page in images:
        twins = [held_out.get((page.stem, other)) for other in ("val", "test")] if split == "train" else []
        same = [twin for twin in twins if twin and filecmp.cmp(page.path, twin.path, shallow=False)]
        if same:
            warnings.warn(f"{page.source} is the same file as {same[0].source}: left out of train", stacklevel=2)
        else:
            kept.append((split, page))
    return kept


def _find_labels(root: Path, images: Sequence[tuple[str, Page]]) -> dict[tuple[str, Page], tuple[LabelSource, ...]]:
    rounds = root / "Human_Annotation_Process"
    truth, final = _ByStem(root / "label", root, images), _ByStem(rounds / "final", root, images)
    further = {name: _ByStem(rounds / folder, root, images) for name, folder in ROUNDS.items()}
    labels, missing = {}, []
    for split, page in images:
        labelled, annotated = truth.of(split, page), final.of(split, page)
        found = []
        if labelled is not None:
            found.append(page_label("membrane", labelled, _RULE, annotated))
        elif annotated is not None:
            found.append(page_label("membrane", annotated, _RULE))
        else:
            missing.append((split, page))
        for name, files in further.items():
            if other := files.of(split, page):
                found.append(page_label(name, other, _RULE))
        labels[split, page] = tuple(found)
    needed = [page.source for split, page in missing if split in ("train", "val")]
    if needed:
        raise UserError(f"{root}: no label of the same name below label for {shorten(needed)}: check the download")
    if missing:
        warnings.warn(f"without a label: {shorten([page.source for _, page in missing])}", stacklevel=2)
    return labels


class _ByStem:
    """Label files of one folder, looked up by the stem of an image."""

    def __init__(self, folder: Path, root: Path, images: Sequence[tuple[str, Page]]) -> None:
        self._folder = folder
        self._pages: dict[str, list[Page]] = {}
        for page in find_images_below(folder, root) if folder.is_dir() else []:
            self._pages.setdefault(page.stem, []).append(page)
        self._taken = {(split, page.stem) for split, page in images}
        own = {PurePosixPath(page.source).parts[1] for _, page in images}
        others = {"Track1"} - own or {"Track2", ORIGINALS}
        self._shared = {page.stem for track in others for page in find_images_below(root / "imgs" / track, root)}

    def of(self, split: str, image: Page) -> Page | None:
        """The label in the folder most like the image's, ``None`` where there is none.

        Raises:
            UserError: if several are equally like it, or it may belong to the other track.
        """
        near = set(PurePosixPath(image.source).parent.parts[1:])
        best: list[Page] = []
        most = -1
        for page in self._pages.get(image.stem, []):
            folders = set(page.path.relative_to(self._folder).parent.parts)
            if self._belongs_elsewhere(folders, near, split, image.stem):
                continue
            common = len(folders & near)
            if common >= most:
                best = [*best, page] if common == most else [page]
                most = common
        if len(best) > 1:
            raise UserError(
                f"{image.source} could have any of these labels: {shorten([page.source for page in best])}; "
                f"put them into the same subfolders as the image"
            )
        if best and image.stem in self._shared and not set(PurePosixPath(best[0].source).parts) & set(TRACKS):
            raise UserError(
                f"{best[0].source} could belong to {image.source} or to the other track's {image.stem}: "
                "put labels into subfolders Track1 and Track2"
            )
        return best[0] if best else None

    def _belongs_elsewhere(self, folders: set[str], near: set[str], split: str, stem: str) -> bool:
        others = set(TRACKS) - near
        # Track 2 exists in two sizes with one set of names, so either size's labels will do.
        if near & {"Track2", ORIGINALS}:
            others -= {"Track2", ORIGINALS}
        of_other_split = any((other, stem) in self._taken for other in folders & set(SPLITS) - {split})
        return bool(folders & others) or of_other_split
