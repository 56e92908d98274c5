"""The two sides of a comparison: named images that are read one at a time, here from stores."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.store import ArrayRef, MosaicStore, MosaicView, Sample

Pixels = NDArray[Any]
Kind = Literal["file", "label", "probability"]
Classes = tuple[tuple[int, str], ...]
"""Value and name of each class, the background first."""


@dataclass(frozen=True)
class Source:
    """One image of a side; nothing is read before ``read`` is called.

    Attributes:
        key: In tables: ``<split>/<sample>`` in a store, else as ``name``.
        name: That it is matched by: of the sample, or of the file without its suffix.
        what: File or sample, for messages.
        shape: In px.
        kind: ``file`` holds whatever somebody saved; ``label`` (0, 1, ignored 255) and ``probability`` (255 is certain
            foreground) are ``uint8`` as stores declare them.
        read: Gives all pixels.
        pixel_size_nm: One value an axis; ``None`` where nobody knows.
        threshold: That the prediction records, 0–1, and how it was chosen.
        classes: Of a label that is read as positions of several classes instead of 0 and 1: the value and name of each.
    """

    key: str
    name: str
    what: str
    shape: tuple[int, ...]
    kind: Kind
    read: Callable[[], Pixels]
    pixel_size_nm: tuple[float, ...] | None = None
    threshold: tuple[float, str] | None = None
    classes: Classes = ()


@dataclass(frozen=True)
class Side:
    """Everything that one argument stands for.

    Attributes:
        what: As the user gave it.
        sources: At least one.
        single_file: Whether all of it is one image file, whose name need not match anything.
    """

    what: str
    sources: tuple[Source, ...]
    single_file: bool = False


def truth_store(path: str, split: str | None, label: str, foreground: Sequence[str | int]) -> Side:
    """Labels of a store.

    Args:
        path: Folder or URL of the store.
        split: That is scored; all of them by default.
        label: Name of the label.
        foreground: Classes that are foreground, for labels of kind ``classes``.

    Raises:
        UserError: if store, split or label do not exist, or classes need a foreground.
    """
    return Side(path, tuple(_label(path, sample, label, foreground) for sample in samples_of(path, split)))


def prediction_store(path: str, split: str | None, label: str | None) -> Side:
    """Probabilities of a store that ``lightning predict`` wrote, or labels of any store.

    Args:
        path: Folder or URL of the store.
        split: That is scored; all of them by default.
        label: Name of a label to take instead of probabilities.

    Raises:
        UserError: if store, split or label do not exist, or images are no probabilities.
    """
    samples = samples_of(path, split)
    for sample in samples:
        # Error layers have classes, and 255 where the truth is unknown.
        binary = [each for each in sample.labels.values() if each.info and each.info.kind == "binary"]
        refuse_marked(path, sample, binary)
    made = [_probability(path, each) if label is None else _label(path, each, label, ()) for each in samples]
    return Side(path, tuple(made))


def samples_of(path: str, split: str | None) -> list[Sample]:
    """Samples of a store, or of one split of it.

    Raises:
        UserError: if there is no such store or split, or no sample.
    """
    samples = MosaicStore(path).samples(split)
    if not samples:
        raise UserError(f"store {path} has no samples: convert images into it with `emseg data convert`")
    return samples


def _label(path: str, sample: Sample, label: str, foreground: Sequence[str | int]) -> Source:
    what = f"label {label!r} of {sample.key} in {path}"
    info = sample.label(label).info
    if info is not None and info.kind == "classes" and not foreground:
        known = ", ".join(info.classes.values())
        raise UserError(
            f"{what} has classes ({known}): say which are foreground, e.g. --foreground '[mitochondrion]', or have "
            "`emseg score` score each of them with --classes all"
        )
    view = MosaicView.of(sample, label, foreground)
    origin = (0,) * len(view.shape)
    return Source(
        sample.key,
        sample.name,
        what,
        view.shape,
        "label",
        lambda: view.read_mask(origin, view.shape),
        view.pixel_size_nm,
    )


def _probability(path: str, sample: Sample) -> Source:
    if not is_prediction(sample) and sample.labels:
        raise UserError(
            f"{sample.key} in {path} is no prediction of `lightning predict` but an image with labels: pass "
            f"--prediction-label NAME to score one of them ({', '.join(sample.labels)})"
        )
    view = MosaicView.of(sample, None)
    origin, made = (0,) * len(view.shape), sample.provenance
    threshold = made.get("threshold")
    return Source(
        sample.key,
        sample.name,
        f"prediction {sample.key} in {path}",
        view.shape,
        "probability" if is_prediction(sample) else "file",
        lambda: view.read_image(origin, view.shape),
        view.pixel_size_nm,
        None if threshold is None else (float(threshold), str(made.get("threshold_source", "unknown"))),
    )


def is_prediction(sample: Sample) -> bool:
    """Whether ``lightning predict`` wrote a sample."""
    return "threshold" in sample.provenance and "checkpoint" in sample.provenance


def refuse_marked(path: str, sample: Sample, masks: Iterable[ArrayRef]) -> None:
    """Refuse a prediction with pixels that the network gave no finite value for.

    Args:
        path: Of the store.
        sample: Of any store; those that are no predictions pass.
        masks: Its labels in which such pixels are 255.

    Raises:
        UserError: naming the sample and the number of pixels.
    """
    for mask in masks if is_prediction(sample) else ():
        marked = mask.info.counts.get(IGNORE, 0) if mask.info else 0
        if marked:
            raise UserError(
                f"prediction {sample.key} in {path} has {marked} px that the network gave no finite value for (marked "
                f"by non_finite: mark), and scores of what is left would flatter it: predict it again, or leave it out "
                "with --samples"
            )
