"""Writing of images, volumes and their labels into a store, a slab of sections in memory at a time."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_modules.batch import IGNORE
from data_modules.convert.labels import CustomRule, LabelRule, half_range
from data_modules.convert.shrink import Shrink
from data_modules.errors import UserError, shorten
from data_modules.images.grey import check_rule, to_8_bit, volume_rule
from data_modules.images.image import Image, Pixels
from data_modules.images.masks import value_counts
from data_modules.images.pages import Page
from data_modules.store import ArrayWriter, SampleWriter, shard_rows

_ROWS = 2048
"""Rows of a page handed to the store at a time: the height of its shards."""
_CLIPPED = 0.05
"""Share of pixels outside of the limits of grey that the user hears about."""

Source = Callable[[], AbstractContextManager[Image]]
"""Opens an image; nothing is opened before it is called."""
Rule = LabelRule | CustomRule


@dataclass(frozen=True)
class LabelSource:
    """One label of a sample.

    Attributes:
        name: Name in the store.
        source: Opens its image, of the sample's shape.
        rule: Meaning of its values.
        twin: Another file of what should be the same label of a page; differences are reported and recorded.
    """

    name: str
    source: Source
    rule: Rule
    twin: Source | None = None


@dataclass(frozen=True)
class SampleSource:
    """One sample to be written.

    Attributes:
        split: Split of the sample.
        name: Name of the sample.
        image: Opens its image.
        pixel_size_nm: ``(Y, X)`` of what is written for a page, which becomes a sample without Z; ``(Z, Y, X)`` for a
            volume; ``None`` for a volume whose file states it.
        labels: Labels of the image.
        shrink: Brings a page and its labels of the original size to the target; ``None`` keeps the size.
    """

    split: str
    name: str
    image: Source
    pixel_size_nm: tuple[float, ...] | None
    labels: tuple[LabelSource, ...] = ()
    shrink: Shrink | None = None

    @property
    def key(self) -> str:
        """``<split>/<sample>``."""
        return f"{self.split}/{self.name}"

    @property
    def is_page(self) -> bool:
        """Whether it is written without the axis Z."""
        return self.pixel_size_nm is not None and len(self.pixel_size_nm) == 2

    def shrinks(self, shape: tuple[int, ...]) -> bool:
        """Whether a page of this shape is downsampled."""
        return self.shrink is not None and shape == self.shrink.original != self.shrink.target


def page_label(name: str, page: Page, rule: LabelRule, twin: Page | None = None) -> LabelSource:
    """Make a label of a page, whose palette gives indices unless it is a binary mask.

    Args:
        name: Name in the store.
        page: Page of the label.
        rule: Meaning of its values.
        twin: Another page of the same label, see :class:`LabelSource`.
    """
    as_values = rule.kind != "binary"
    return LabelSource(name, partial(page.open, as_values), rule, partial(twin.open, as_values) if twin else None)


def check_pixel_size(pixel_size_nm: float) -> None:
    """Refuse what cannot be a pixel size.

    Raises:
        UserError: if it is not a positive number.
    """
    if not (np.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise UserError(f"--pixel-size-nm {pixel_size_nm}: give the side of a pixel in nanometers, above 0")


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


def write_samples(
    out: Path, samples: Sequence[SampleSource], converter: str, grey: str = "percentile", overwrite: bool = False
) -> list[str]:
    """Write pages and volumes into a store, each of them complete or not at all.

    Args:
        out: The store, made where it does not exist.
        samples: Samples to write.
        converter: Name of the converter, for the provenance.
        grey: Rule that brings images to 8 bit, see :func:`data_modules.images.grey.to_8_bit`; limits are those of the
            whole image or volume.
        overwrite: Whether samples of the same names may be replaced.

    Returns:
        ``<split>/<sample>`` of everything written, in order.

    Raises:
        UserError: before anything is written if samples exist or names repeat; later if a file cannot be used.
    """
    check_rule(grey)
    check_new(out, [sample.key for sample in samples], overwrite)
    # Without a terminal (disable=None) the bar would fill log files.
    for sample in tqdm(samples, desc=f"convert to {out.name}", unit="sample", disable=None):
        with ExitStack() as opened:
            # The image is closed before labels are read, so that one page is in memory at a time.
            target, shape, what = _write_image(opened, out, sample, converter, grey, overwrite)
            for label in sample.labels:
                _write_label(target, sample, label, shape, what)
    return [sample.key for sample in samples]


def _write_image(
    opened: ExitStack, out: Path, sample: SampleSource, converter: str, named: str, overwrite: bool
) -> tuple[SampleWriter, tuple[int, ...], str]:
    record: dict[str, Any] = {}
    clipped = 0.0

    def convert(section: Pixels, what: str) -> Pixels:
        nonlocal record, clipped
        grey, record = to_8_bit(section, rule, what)
        clipped += record.get("clipped_fraction", 0.0) / image.shape[0]
        if sample.shrink is None or not sample.shrinks(section.shape):
            return grey
        provenance["downsampled"] = {**sample.shrink.record, "filter": sample.shrink.filter}
        return sample.shrink.image(grey)

    with sample.image() as image:
        shape = _check_shapes(sample, image)
        if (size := sample.pixel_size_nm or image.pixel_size_nm) is None:
            raise UserError(
                f"{image.what} does not state its pixel size: give Z,Y,X in nm, such as --pixel-size-nm 50,4,4"
            )
        rule = named if sample.is_page else volume_rule(image, named)
        provenance: dict[str, Any] = {**image.record, "converter": converter}
        writer = SampleWriter(out, sample.split, sample.name, shape, size, provenance, overwrite)
        target = opened.enter_context(writer)
        for band in _bands(sample, image, convert):
            target.image.write(band)
        if "lo" in record:
            record.update(rule=named, clipped_fraction=clipped)
            if record["lo"] == record["hi"]:
                _warn(f"{image.what} is {record['lo']:g} everywhere: it was written as 0")
        if clipped > _CLIPPED:
            _warn(f"{image.what}: {clipped:.1%} of the pixels were clipped by --grey {named}")
        # The writer stores this dictionary when it closes.
        provenance["grey"] = record
        return target, shape, image.what


def _check_shapes(sample: SampleSource, image: Image) -> tuple[int, ...]:
    if sample.is_page:
        shape = image.shape[1:]
        return sample.shrink.target if sample.shrink is not None and sample.shrinks(shape) else shape
    for label in sample.labels:
        with label.source() as labelled:
            if labelled.shape != image.shape:
                raise UserError(
                    f"{image.what} is {image.shape} px but its label {labelled.what} is {labelled.shape} px (Z, Y, X): "
                    "give image and label of one size"
                )
    return image.shape


def _bands(sample: SampleSource, image: Image, convert: Callable[[Pixels, str], Pixels]) -> Iterator[Pixels]:
    """Converted pixels in the pieces in which the store takes them: rows of a page, sections of a volume."""
    if sample.is_page:
        page = convert(next(image.sections()), image.what)
        yield from (page[start : start + _ROWS] for start in range(0, len(page), _ROWS))
        return
    depth, height = image.shape[0], shard_rows(image.shape)
    for start in tqdm(range(0, depth, height), desc=sample.key, unit="slab", leave=False, disable=None):
        slab = np.empty(0)
        for place, section in enumerate(image.sections(start, min(start + height, depth))):
            converted = convert(section, f"{image.what} (section {start + place})")
            if place == 0:
                slab = np.empty((min(height, depth - start), *converted.shape), converted.dtype)
            slab[place] = converted
        yield slab


def _write_label(
    target: SampleWriter, sample: SampleSource, label: LabelSource, shape: tuple[int, ...], image: str
) -> None:
    present: set[int] = set()

    def convert(section: Pixels, what: str) -> Pixels:
        applied = rule.apply(section, what)
        record.update(applied.record)
        if sample.is_page:
            page = _fit_label(applied.pixels, sample, shape, (image, what), record)
            _warn(*applied.notes)
            if label.twin is not None:
                record["compared_with"] = _compare(page, sample, label, label.twin, (image, what))
            return page
        # The share of one section says nothing about the volume.
        record.pop("foreground_fraction", None)
        if rule.info.kind == "binary":
            present.update(value_counts(applied.pixels)[0].tolist())
        return applied.pixels

    with label.source() as labelled:
        rule = label.rule if sample.is_page else _settle(label.rule, labelled)
        record: dict[str, Any] = {"source_dtype": str(labelled.dtype), **labelled.record}
        array: ArrayWriter | None = None
        for band in _bands(sample, labelled, convert):
            array = array or target.add_label(label.name, rule.info, band.dtype, record)
            array.write(band)
        if len(sides := present - {IGNORE}) == 1:
            _warn(f"{labelled.what} is all {'foreground' if sides == {1} else 'background'}")


def _fit_label(
    pixels: Pixels, sample: SampleSource, shape: tuple[int, ...], whats: tuple[str, str], record: dict[str, Any]
) -> Pixels:
    """A label of the original size is downsampled as its image was."""
    if sample.shrink is not None and pixels.shape == sample.shrink.original != shape:
        share = sample.shrink.label_share
        record["downsampled"] = {**sample.shrink.record, "foreground_if_area_share": share}
        pixels = sample.shrink.mask(pixels)
    if pixels.shape != shape:
        raise UserError(
            f"{whats[0]} is {shape} px but its label {whats[1]} is {pixels.shape} px: give image and label of one size"
        )
    return pixels


def _compare(
    stored: Pixels, sample: SampleSource, label: LabelSource, twin: Source, whats: tuple[str, str]
) -> dict[str, Any]:
    with twin() as image:
        applied = label.rule.apply(next(image.sections()), image.what)
        pixels = _fit_label(applied.pixels, sample, stored.shape, (whats[0], image.what), {})
        different = int(np.count_nonzero(pixels != stored))
        if different:
            _warn(f"{whats[1]} and {image.what} differ in {different} px: {label.name} is the first")
        origin = {key: value for key, value in image.record.items() if key != "reading"}
        return {**origin, "different_px": different}


def _settle(rule: Rule, image: Image) -> Rule:
    """Give a binary rule the threshold that follows from all sections: one alone may lack the object."""
    if not isinstance(rule, LabelRule) or rule.kind != "binary" or rule.threshold is not None:
        return rule
    total: dict[float, int] = {}
    for section in image.sections():
        for value, count in zip(*(part.tolist() for part in value_counts(section)), strict=True):
            total[value] = total.get(value, 0) + count
    values = np.array(sorted(value for value in total if value != rule.ignore_value))
    return replace(rule, threshold=half_range(values, np.array([total[value] for value in values]), image.what))


def _warn(*notes: str) -> None:
    for note in notes:
        warnings.warn(note, stacklevel=2)
