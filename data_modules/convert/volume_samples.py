"""Writing volumes into a store as samples ``(Z, Y, X)``, a slab of sections in memory at a time."""

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from data_modules.convert.decode import Pixels
from data_modules.convert.grey import check_rule, to_8_bit
from data_modules.convert.labels import IGNORE, Label, LabelRule, half_range, value_counts
from data_modules.convert.samples import check_new
from data_modules.convert.volume_grey import volume_rule
from data_modules.convert.volume_stacks import Source, Stack
from data_modules.errors import UserError
from data_modules.store import ArrayWriter, LabelInfo, SampleWriter, shard_rows

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
        grey: Rule that brings images to 8 bit, see :func:`data_modules.convert.grey.to_8_bit`; limits are those of the
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
