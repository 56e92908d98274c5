"""The two sides of an evaluation: named images of stores, read one at a time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.store import ArrayRef, LabelInfo, MosaicStore, MosaicView, Sample

Pixels = NDArray[Any]
Kind = Literal["file", "label", "probability"]
Classes = tuple[tuple[int, str], ...]
"""Value and name of each class, the background first."""


@dataclass(frozen=True)
class ScoredImage:
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
    sources: tuple[ScoredImage, ...]
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


def _label(path: str, sample: Sample, label: str, foreground: Sequence[str | int]) -> ScoredImage:
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
    return ScoredImage(
        sample.key,
        sample.name,
        what,
        view.shape,
        "label",
        lambda: view.read_mask(origin, view.shape),
        view.pixel_size_nm,
    )


def _probability(path: str, sample: Sample) -> ScoredImage:
    if not is_prediction(sample) and sample.labels:
        raise UserError(
            f"{sample.key} in {path} is no prediction of `lightning predict` but an image with labels: pass "
            f"--prediction-label NAME to score one of them ({', '.join(sample.labels)})"
        )
    view = MosaicView.of(sample, None)
    origin, made = (0,) * len(view.shape), sample.provenance
    threshold = made.get("threshold")
    return ScoredImage(
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


Given = Sequence[str] | Literal["all"]


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of classes as a user gave them, the background first.

    Raises:
        UserError: if there are fewer than two, one is there twice, or has the name of other columns.
    """
    if not 2 <= len(names) < 255 or len(set(names)) < len(names):
        raise UserError(
            f"--classes {list(names)}: name the background and at least one more class, each of them once, or pass "
            "--classes all"
        )
    if taken := {"mean", "background"} & set(names[1:]):
        raise UserError(
            f"--classes: {' and '.join(sorted(taken))} has columns of its own in tables of scores: rename that class, "
            "or name the background first"
        )
    return tuple(names)


def names_of_truth(path: str, split: str | None, label: str) -> tuple[str, ...]:
    """All classes of a truth, in the order of its label, the class of value 0 first.

    Args:
        path: Folder or URL of the store.
        split: That is scored; all of them by default.
        label: Name of the label.

    Raises:
        UserError: if it has no classes, or none has the value 0.
    """
    sample = samples_of(path, split)[0]
    classes = _info(path, sample, label).classes
    if 0 not in classes:
        raise UserError(
            f"{_what(path, sample, label)} has no class of the value 0, the background, but {dict(classes)}: name the "
            "classes, the background first, as in --classes '[background, mitochondrion]'"
        )
    return checked_names([classes[0], *(name for value, name in classes.items() if value)])


def class_truths(path: str, split: str | None, label: str, names: Sequence[str]) -> Side:
    """Labels of a store.

    Args:
        path: Folder or URL of the store.
        split: That is scored; all of them by default.
        label: Name of the label.
        names: Of all its classes, the background first.

    Raises:
        UserError: if store, split or label do not exist, or the label has other classes.
    """
    return Side(path, tuple(_class_label(path, sample, label, names) for sample in samples_of(path, split)))


def class_predictions(path: str, split: str | None, given: str | None, label: str, names: Sequence[str]) -> Side:
    """Masks of a store that ``lightning predict`` wrote, or labels of any store.

    Args:
        path: Folder or URL of the store.
        split: That is scored; all of them by default.
        given: Name of the label, if the user gave one.
        label: Name of the truth's, which that of a prediction has too.
        names: Of all classes, the background first.

    Raises:
        UserError: if store, split or label do not exist, the label has other classes, or pixels are marked because the
            network gave no finite value.
    """
    sources = []
    for sample in samples_of(path, split):
        chosen = given or _label_of_prediction(path, sample, label)
        refuse_marked(path, sample, [sample.label(chosen)])
        sources.append(_class_label(path, sample, chosen, names))
    return Side(path, tuple(sources))


def _label_of_prediction(path: str, sample: Sample, label: str) -> str:
    if is_prediction(sample) and label in sample.labels:
        return label
    wrong = f"has no label {label!r}" if is_prediction(sample) else "is no prediction of `lightning predict`"
    known = ", ".join(sample.labels) or "none"
    raise UserError(
        f"{sample.key} in {path} {wrong}: pass --prediction-label NAME to score one of its labels ({known})"
    )


def _class_label(path: str, sample: Sample, label: str, names: Sequence[str]) -> ScoredImage:
    what, known = _what(path, sample, label), list(_info(path, sample, label).classes.values())
    lacking, more = [name for name in names if name not in known], [name for name in known if name not in names]
    if lacking or more:
        differ = [f"lacks {lacking}" if lacking else "", f"also has {more}" if more else ""]
        raise UserError(
            f"{what} {' and '.join(filter(None, differ))}, where {list(names)} are scored: both sides need the same "
            "classes by name, all of them; convert one again with the names of the other, or score one by --foreground"
        )
    view = MosaicView.of(sample, label, classes=names)
    origin = (0,) * len(view.shape)
    return ScoredImage(
        sample.key,
        sample.name,
        what,
        view.shape,
        "label",
        lambda: view.read_mask(origin, view.shape),
        view.pixel_size_nm,
        classes=view.classes,
    )


def _what(path: str, sample: Sample, label: str) -> str:
    return f"label {label!r} of {sample.key} in {path}"


def _info(path: str, sample: Sample, label: str) -> LabelInfo:
    array: ArrayRef = sample.label(label)
    info = array.info
    assert info is not None
    if info.kind != "classes":
        raise UserError(f"{_what(path, sample, label)} is {info.kind}, so that it has no classes: leave out --classes")
    return info
