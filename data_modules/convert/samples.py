"""Writing sample after sample: one image in memory at a time, its labels one after the other."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_modules.convert.decode import Pixels
from data_modules.convert.grey import check_rule, to_8_bit
from data_modules.convert.labels import Label, LabelRule
from data_modules.convert.shrink import Shrink
from data_modules.convert.sources import Page, shorten
from data_modules.errors import UserError
from data_modules.store import ArrayWriter, SampleWriter

_ROWS = 2048
"""Rows handed to the store at a time: the height of its shards."""


@dataclass(frozen=True)
class LabelSource:
    """One label of a sample.

    Attributes:
        name: In the store.
        page: Where it comes from.
        rule: How its values are understood.
        twin: Another file of what should be the same label; differences are reported and recorded.
    """

    name: str
    page: Page
    rule: LabelRule
    twin: Page | None = None


@dataclass(frozen=True)
class SampleSource:
    """One sample to be written.

    Attributes:
        split: It goes to.
        image: Where its image comes from; also names it.
        pixel_size_nm: Y and X, of what is written.
        labels: Of the image.
        shrink: Brings image and labels of the original size to the target; ``None`` keeps the size.
    """

    split: str
    image: Page
    pixel_size_nm: tuple[float, float]
    labels: tuple[LabelSource, ...] = ()
    shrink: Shrink | None = None

    @property
    def key(self) -> str:
        """``<split>/<sample>``."""
        return f"{self.split}/{self.image.name}"


def check_pixel_size(pixel_size_nm: float) -> None:
    """Refuse what cannot be a pixel size.

    Raises:
        UserError: if it is not a positive number.
    """
    if not (np.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise UserError(f"--pixel-size-nm {pixel_size_nm}: give the side of a pixel in nanometers, above 0")


def write_samples(
    out: Path, sources: Sequence[SampleSource], converter: str, grey: str = "percentile", overwrite: bool = False
) -> list[str]:
    """Write samples into a store, each of them complete or not at all.

    Args:
        out: The store, made where it does not exist.
        sources: What to write.
        converter: Name of the converter, for the provenance.
        grey: Rule that brings images to 8 bit, see :func:`data_modules.convert.grey.to_8_bit`.
        overwrite: Whether samples of the same names may be replaced.

    Returns:
        ``<split>/<sample>`` of everything written, in order.

    Raises:
        UserError: before anything is written if samples exist or names repeat; later if a file cannot be used.
    """
    check_rule(grey)
    check_new(out, [source.key for source in sources], overwrite)
    # Without a terminal (disable=None) the bar would fill log files.
    for source in tqdm(sources, desc=f"convert to {out.name}", unit="image", disable=None):
        _write_sample(out, source, converter, grey, overwrite)
    return [source.key for source in sources]


def check_new(out: Path, keys: Sequence[str], overwrite: bool) -> None:
    """Refuse samples that would replace another, before anything is written.

    Args:
        out: The store.
        keys: ``<split>/<sample>`` of what is to be written.
        overwrite: Whether samples of the store may be replaced.

    Raises:
        UserError: if keys repeat, or the store has one of them and must not lose it.
    """
    if repeated := [key for key, count in Counter(keys).items() if count > 1]:
        raise UserError(f"several images would become one sample: {shorten(repeated)}; rename the files")
    existing = [key for key in keys if (out / key).exists()]
    if existing and not overwrite:
        raise UserError(f"{out} already has {shorten(existing)}: choose another --out, or pass --overwrite")


def _write_sample(out: Path, source: SampleSource, converter: str, grey: str, overwrite: bool) -> None:
    pixels, provenance = _image(source, grey)
    provenance["converter"] = converter
    shape = (pixels.shape[0], pixels.shape[1])
    writer = SampleWriter(out, source.split, source.image.name, shape, source.pixel_size_nm, provenance, overwrite)
    with writer as sample:
        _write(sample.image, pixels)
        del pixels
        for label in source.labels:
            stored = _label(label.page, label.rule, source, shape)
            _notify(stored.notes)
            record = stored.record
            if label.twin is not None:
                record["compared_with"] = _compare(stored, label, label.twin, source, shape)
            array = sample.add_label(label.name, label.rule.info, stored.pixels.dtype, record)
            _write(array, stored.pixels)


def _image(source: SampleSource, grey: str) -> tuple[Pixels, dict[str, Any]]:
    page = source.image
    raw = page.read()
    brought = to_8_bit(raw.pixels, grey, page.what)
    record = brought.record
    if record.get("clipped_fraction", 0) > 0.05:
        _notify([f"{page.what}: {record['clipped_fraction']:.1%} of the pixels were clipped by --grey {grey}"])
    if "lo" in record and record["lo"] == record["hi"]:
        _notify([f"{page.what} is {record['lo']:g} everywhere: it was written as 0"])
    provenance = {**page.record, "reading": list(raw.remarks), "grey": record}
    pixels, shrink = brought.pixels, source.shrink
    if shrink is not None and pixels.shape == shrink.original != shrink.target:
        pixels = shrink.image(pixels)
        provenance["downsampled"] = shrink.record
    return pixels, provenance


def _label(page: Page, rule: LabelRule, source: SampleSource, shape: tuple[int, int]) -> Label:
    raw = page.read(as_values=rule.kind != "binary")
    label = rule.apply(raw.pixels, page.what)
    record = {**page.record, "source_dtype": str(raw.pixels.dtype), "reading": list(raw.remarks), **label.record}
    pixels, shrink = label.pixels, source.shrink
    if shrink is not None and pixels.shape == shrink.original != shape:
        pixels = shrink.mask(pixels)
        record["downsampled"] = shrink.label_record
    if pixels.shape != shape:
        raise UserError(
            f"{source.image.what} is {shape} px but its label {page.what} is {pixels.shape} px: "
            "give image and label of one size"
        )
    return Label(pixels, record, label.notes)


def _compare(
    stored: Label, label: LabelSource, twin: Page, source: SampleSource, shape: tuple[int, int]
) -> dict[str, Any]:
    other = _label(twin, label.rule, source, shape)
    different = int(np.count_nonzero(other.pixels != stored.pixels))
    if different:
        _notify([f"{label.page.what} and {twin.what} differ in {different} px: {label.name} is the first"])
    return {**twin.record, "different_px": different}


def _write(array: ArrayWriter, pixels: Pixels) -> None:
    for start in range(0, len(pixels), _ROWS):
        array.write(pixels[start : start + _ROWS])


def _notify(notes: Sequence[str]) -> None:
    for note in notes:
        warnings.warn(note, stacklevel=2)
