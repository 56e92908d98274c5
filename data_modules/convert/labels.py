"""Turning raw label pages into store labels: binary masks, classes, instances."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from data_modules.batch import IGNORE
from data_modules.errors import UserError, shorten
from data_modules.images.image import Pixels
from data_modules.images.masks import MAX_BETWEEN, share_between, value_counts
from data_modules.store import LabelInfo, LabelKind

Foreground = Literal["dark", "bright"]


@dataclass(frozen=True)
class Label:
    """A label as the store holds it.

    Attributes:
        pixels: ``(Y, X)``: ``uint8`` for binary and classes, ``uint32`` or ``uint64`` for instances.
        record: JSON-ready account of the rule, for the provenance.
        notes: Messages for the user.
    """

    pixels: Pixels
    record: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelRule:
    """How label values of the files are to be understood.

    Attributes:
        kind: ``binary``, ``classes`` or ``instances``.
        foreground: Side of a binary mask that is the object.
        classes: Names by value, for ``classes``; 0 to 254.
        threshold: Binary values above it are bright; ``None`` for half of the range.
        ignore_value: Value of the file that counts nowhere; becomes 255.

    Raises:
        UserError: if the parts do not fit together.
    """

    kind: LabelKind = "binary"
    foreground: Foreground | None = None
    classes: Mapping[int, str] = field(default_factory=dict)
    threshold: float | None = None
    ignore_value: int | None = None

    def __post_init__(self) -> None:
        if self.kind == "binary" and self.foreground is None:
            raise UserError("binary labels need --foreground dark or bright: which side of the mask is the object?")
        if self.kind != "binary" and (self.foreground is not None or self.threshold is not None):
            raise UserError(f"--foreground and --threshold are for binary labels, not for --kind {self.kind}")
        if (self.kind == "classes") != bool(self.classes):
            raise UserError("--kind classes needs --classes, such as '{0: background, 1: membrane}', and only it does")
        if wrong := [value for value in self.classes if not 0 <= value < IGNORE]:
            raise UserError(
                f"--classes: values go from 0 to 254 (255 marks ignored pixels), not {wrong}: renumber them"
            )
        if self.ignore_value is not None and self.kind == "instances":
            raise UserError("--ignore-value is for binary and class labels: instances have no ignored pixels")
        if self.ignore_value in self.classes:
            raise UserError(f"--ignore-value {self.ignore_value} is also one of --classes: take it out of one of them")

    @property
    def info(self) -> LabelInfo:
        """What the store declares."""
        return LabelInfo(self.kind, dict(self.classes))

    def apply(self, pixels: Pixels, what: str) -> Label:
        """Convert raw label pixels.

        Args:
            pixels: ``(Y, X)`` as read from the file.
            what: The file, for messages.

        Raises:
            UserError: if the values do not fit the rule.
        """
        if pixels.dtype.kind not in "biuf" or (pixels.dtype.kind == "f" and not np.isfinite(pixels).all()):
            raise UserError(f"{what}: label values of type {pixels.dtype} that are not finite numbers; save integers")
        if self.kind == "instances":
            return _instances(pixels, what)
        return self._classes(pixels, what) if self.kind == "classes" else self._binary(pixels, what)

    def _binary(self, pixels: Pixels, what: str) -> Label:
        values, counts = value_counts(pixels)
        if self.ignore_value is not None:
            values, counts = values[values != self.ignore_value], counts[values != self.ignore_value]
        threshold = self.threshold
        if threshold is None:
            threshold = half_range(values, counts, what)
        bright = pixels > threshold
        mask = (bright if self.foreground == "bright" else ~bright).astype(np.uint8)
        if self.ignore_value is not None:
            mask[pixels == self.ignore_value] = IGNORE
        foreground = int(counts[(values > threshold) == (self.foreground == "bright")].sum())
        share = foreground / max(int(counts.sum()), 1)
        notes: tuple[str, ...] = ()
        if share in (0.0, 1.0):
            side = "foreground" if share else "background"
            notes = (f"{what} is all {side} (values {_listed(values)}, foreground {self.foreground})",)
        record = {
            "rule": "values above the threshold are bright",
            "threshold": threshold,
            "foreground": self.foreground,
            "foreground_fraction": share,
            "ignore_value": self.ignore_value,
        }
        return Label(mask, record, notes)

    def _classes(self, pixels: Pixels, what: str) -> Label:
        values, _ = value_counts(pixels)
        unknown = [value for value in values if value not in self.classes and value != self.ignore_value]
        if unknown:
            raise UserError(
                f"{what} has values that --classes does not name: {_listed(np.asarray(unknown))}; "
                "name them, or mark one with --ignore-value"
            )
        ignored = pixels == self.ignore_value if self.ignore_value is not None else np.zeros(pixels.shape, bool)
        stored = np.where(ignored, 0, pixels).astype(np.uint8)
        stored[ignored] = IGNORE
        return Label(stored, {"rule": "values unchanged", "ignore_value": self.ignore_value})


@dataclass(frozen=True)
class CustomRule:
    """Rule of one data set.

    Attributes:
        info: Declaration in the store.
        apply: Converts one section ``(Y, X)``; the text names it in messages.
    """

    info: LabelInfo
    apply: Callable[[Pixels, str], Label]


def half_range(values: Pixels, counts: Pixels, what: str) -> float:
    """Threshold of a mask that has two extremes; anything else is refused.

    The extremes are 0 and 1 where no value is above 1, else 0 and 255, else 0 and 65535.

    Args:
        values: Values that occur, ascending, less those to be ignored.
        counts: How often each does.
        what: The file, for messages.

    Raises:
        UserError: if there are no two extremes, or two readings of them.
    """
    if not len(values):
        return 0.5
    top = next((top for top in (1, 255, 65535) if values[-1] <= top), None)
    advice = "pass --kind classes or --kind instances if it is one of these, or --threshold to cut it in two"
    found = f"{len(values)} values ({_listed(values)})"
    if top is None or values[0] < 0:
        raise UserError(f"{what} is no binary mask: it has {found}; {advice}")
    share = share_between(values, counts, top)
    if share > MAX_BETWEEN:
        raise UserError(
            f"{what} is no binary mask: {share:.1%} of its pixels lie between the extremes, {found}; {advice}"
        )
    if len(values) > 1 and (values[0] > top / 2 or values[-1] < top / 2):
        raise UserError(f"{what} has {found} but nothing at the other extreme, so it may be no binary mask; {advice}")
    if set(values.tolist()) in ({0, 1, 255}, {1, 255}):
        raise UserError(
            f"{what} has the values {_listed(values)}: pass --ignore-value 255 if 255 marks pixels to be ignored, "
            "or --threshold 128 if it is the object"
        )
    return top / 2


def _instances(pixels: Pixels, what: str) -> Label:
    if pixels.dtype.kind == "f":
        # Above 2^24 a float32 no longer holds every id.
        if (pixels != np.rint(pixels)).any() or np.abs(pixels).max() > 2**24:
            raise UserError(f"{what} holds {pixels.dtype} values that are no whole ids: save it as integers")
        pixels = pixels.astype(np.int32)
    if pixels.dtype.kind == "i" and pixels.min() < 0:
        raise UserError(f"{what} has negative ids: renumber them from 0 (no object) upwards")
    wide = np.uint64 if pixels.dtype.itemsize > 4 else np.uint32
    return Label(pixels.astype(wide, copy=False), {"rule": "ids unchanged"})


def _listed(values: Pixels) -> str:
    return shorten([f"{value:g}" for value in values.tolist()])
