"""Writing of images, volumes and their labels into a store."""

import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from data_modules.convert.labels import IGNORE, Label, LabelRule, half_range, value_counts
from data_modules.convert.shrink import Shrink
from data_modules.errors import UserError
from data_modules.images.grey import check_rule, to_8_bit, volume_rule
from data_modules.images.image import Pixels
from data_modules.images.pages import Page, shorten
from data_modules.images.stacks import Source, Stack
from data_modules.store import ArrayWriter, LabelInfo, SampleWriter, shard_rows

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
        grey: Rule that brings images to 8 bit, see :func:`data_modules.images.grey.to_8_bit`.
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


_CLIPPED = 0.05
"""Share of pixels outside of the limits of grey that the user hears about."""


class Rule(Protocol):
    """How label values are to be understood, as :class:`~data_modules.convert.labels.LabelRule` says it."""

    @property
    def info(self) -> LabelInfo:
        """What the store declares."""
        ...

    def apply(self, pixels: Pixels, what: str) -> Label:
        """Convert one section ``(Y, X)``; ``what`` is for messages."""
        ...


@dataclass(frozen=True)
class VolumeLabel:
    """One label of a volume.

    Attributes:
        name: In the store.
        source: Opens its stack, of the image's shape.
        rule: How its values are understood.
    """

    name: str
    source: Source
    rule: Rule


@dataclass(frozen=True)
class VolumeSample:
    """One volume to be written.

    Attributes:
        split: It goes to.
        name: Of the sample.
        image: Opens its stack.
        pixel_size_nm: ``(Z, Y, X)``; ``None`` for what the image's file states.
        labels: Of the image.
    """

    split: str
    name: str
    image: Source
    pixel_size_nm: tuple[float, float, float] | None
    labels: tuple[VolumeLabel, ...] = ()

    @property
    def key(self) -> str:
        """``<split>/<sample>``."""
        return f"{self.split}/{self.name}"


def write_volumes(
    out: Path, samples: Sequence[VolumeSample], converter: str, grey: str = "percentile", overwrite: bool = False
) -> list[str]:
    """Write volumes into a store, each of them complete or not at all.

    Args:
        out: The store, made where it does not exist.
        samples: What to write.
        converter: Name of the converter, for the provenance.
        grey: Rule that brings images to 8 bit, see :func:`data_modules.images.grey.to_8_bit`; limits are those of the
            whole volume.
        overwrite: Whether samples of the same names may be replaced.

    Returns:
        ``<split>/<sample>`` of everything written, in order.

    Raises:
        UserError: before anything is written if samples exist or names repeat; later if a file cannot be used.
    """
    check_rule(grey)
    keys = [sample.key for sample in samples]
    check_new(out, keys, overwrite)
    for sample in samples:
        _write_volume(out, sample, converter, grey, overwrite)
    return keys


def _write_volume(out: Path, sample: VolumeSample, converter: str, grey: str, overwrite: bool) -> None:
    with ExitStack() as opened:
        image = opened.enter_context(sample.image())
        labels = [(label, opened.enter_context(label.source())) for label in sample.labels]
        for _, stack in labels:
            if stack.shape != image.shape:
                raise UserError(
                    f"{image.what} is {image.shape} px but its label {stack.what} is {stack.shape} px (Z, Y, X): give "
                    "image and label of one size"
                )
        rule = volume_rule(image, grey)
        provenance: dict[str, Any] = {**image.record, "converter": converter}
        size = _pixel_size(sample, image)
        writer = SampleWriter(out, sample.split, sample.name, image.shape, size, provenance, overwrite)
        with writer as target:
            # The writer keeps this dictionary and stores it when it closes, so what is known at the end gets in.
            provenance["grey"] = _write_image(target.image, image, rule, grey, sample.key)
            for label, stack in labels:
                _write_label(target, label, stack)


def _pixel_size(sample: VolumeSample, image: Stack) -> tuple[float, ...]:
    size = sample.pixel_size_nm or image.pixel_size_nm
    if size is None:
        raise UserError(f"{image.what} does not state its pixel size: give Z,Y,X in nm, such as --pixel-size-nm 50,4,4")
    return size


def _write_image(array: ArrayWriter, image: Stack, rule: str, named: str, key: str) -> dict[str, Any]:
    record: dict[str, Any] = {}
    clipped = 0.0
    # Without a terminal (disable=None) the bar would fill log files.
    for start, stop in tqdm(_slabs(image.shape), desc=key, unit="slab", disable=None):
        grey = np.empty((stop - start, *image.shape[1:]), np.uint8)
        for place, section in enumerate(image.sections(start, stop)):
            brought = to_8_bit(section, rule, f"{image.what} (section {start + place})")
            grey[place], record = brought.pixels, brought.record
            clipped += record.get("clipped_fraction", 0.0) / image.shape[0]
        array.write(grey)
    if "lo" in record:
        record.update(rule=named, clipped_fraction=clipped)
    if clipped > _CLIPPED:
        warnings.warn(f"{image.what}: {clipped:.1%} of the pixels were clipped by --grey {named}", stacklevel=2)
    return record


def _write_label(target: SampleWriter, label: VolumeLabel, stack: Stack) -> None:
    rule = _settled(label.rule, stack)
    record: dict[str, Any] = {**stack.record, "source_dtype": str(stack.dtype)}
    array: ArrayWriter | None = None
    present: set[int] = set()
    for start, stop in _slabs(stack.shape):
        values: Pixels | None = None
        for place, section in enumerate(stack.sections(start, stop)):
            applied = rule.apply(section, f"{stack.what} (section {start + place})")
            if values is None:
                values = np.empty((stop - start, *section.shape), applied.pixels.dtype)
                record.update((key, value) for key, value in applied.record.items() if key != "foreground_fraction")
            values[place] = applied.pixels
            if rule.info.kind == "binary":
                present |= set(value_counts(applied.pixels)[0].tolist())
        assert values is not None
        array = array or target.add_label(label.name, rule.info, values.dtype, record)
        array.write(values)
    if len(sides := present - {IGNORE}) == 1:
        warnings.warn(f"{stack.what} is all {'foreground' if sides == {1} else 'background'}", stacklevel=2)


def _settled(rule: Rule, stack: Stack) -> Rule:
    """A binary rule with the threshold that follows from all sections: one alone may lack the object."""
    if not isinstance(rule, LabelRule) or rule.kind != "binary" or rule.threshold is not None:
        return rule
    total: dict[float, int] = {}
    for section in stack.sections(0, stack.shape[0]):
        for value, count in zip(*(part.tolist() for part in value_counts(section)), strict=True):
            total[value] = total.get(value, 0) + count
    values = np.array(sorted(value for value in total if value != rule.ignore_value))
    return replace(rule, threshold=half_range(values, np.array([total[value] for value in values]), stack.what))


def _slabs(shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Spans of sections as high as the shards of a stored volume of this shape.

    >>> _slabs((70, 5, 5))
    [(0, 32), (32, 64), (64, 70)]
    """
    height = shard_rows(shape)
    return [(start, min(start + height, shape[0])) for start in range(0, shape[0], height)]
