"""The two sides of a comparison of several classes, from stores: labels, matched by the names of their classes."""

from collections.abc import Sequence
from typing import Literal

from data_modules.errors import UserError
from data_modules.store import ArrayRef, LabelInfo, MosaicView, Sample
from lightning_emseg.scoring.sources import Side, Source, is_prediction, refuse_marked, samples_of

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
    return Side(path, tuple(_source(path, sample, label, names) for sample in samples_of(path, split)))


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
        chosen = given or _of_prediction(path, sample, label)
        refuse_marked(path, sample, [sample.label(chosen)])
        sources.append(_source(path, sample, chosen, names))
    return Side(path, tuple(sources))


def _of_prediction(path: str, sample: Sample, label: str) -> str:
    if is_prediction(sample) and label in sample.labels:
        return label
    wrong = f"has no label {label!r}" if is_prediction(sample) else "is no prediction of `lightning predict`"
    known = ", ".join(sample.labels) or "none"
    raise UserError(
        f"{sample.key} in {path} {wrong}: pass --prediction-label NAME to score one of its labels ({known})"
    )


def _source(path: str, sample: Sample, label: str, names: Sequence[str]) -> Source:
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
    return Source(
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
