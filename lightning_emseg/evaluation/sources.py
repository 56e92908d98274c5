"""The two sides of an evaluation, images that are read one at a time, and the truth of every prediction by name."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.store import LabelInfo, MosaicStore, MosaicView, Sample

Pixels = NDArray[Any]
ClassValues = tuple[tuple[int, str], ...]
"""Value and name of each class, the background first."""
_MOST = 6
"""Names that a message lists."""


@dataclass(frozen=True)
class ScoredImage:
    """One image of a side; nothing is read before ``read`` is called.

    Attributes:
        key: Name in tables: ``<split>/<sample>`` in a store, else as ``name``.
        name: Name that it is matched by: of the sample, or of the file without its suffix.
        what: File or sample, for messages.
        shape: Size in px.
        kind: ``file`` holds whatever somebody saved; ``label`` (0, 1, ignored 255) and ``probability`` (255 is certain
            foreground) are ``uint8`` as stores declare them.
        read: Function that returns all pixels.
        pixel_size_nm: One value an axis; ``None`` where nobody knows.
        threshold: Threshold that the prediction records, 0–1, and how it was chosen.
        classes: Values and names of a label that is read as positions of several classes instead of 0 and 1.
    """

    key: str
    name: str
    what: str
    shape: tuple[int, ...]
    kind: Literal["file", "label", "probability"]
    read: Callable[[], Pixels]
    pixel_size_nm: tuple[float, ...] | None = None
    threshold: tuple[float, str] | None = None
    classes: ClassValues = ()


@dataclass(frozen=True)
class Side:
    """Everything that one argument stands for.

    Attributes:
        what: Argument as the user gave it.
        images: One or more images.
        single_file: Whether all of it is one image file, whose name need not match anything.
    """

    what: str
    images: tuple[ScoredImage, ...]
    single_file: bool = False


def truth_store(
    path: str, split: str | None, label: str, foreground: Sequence[str | int] = (), classes: Sequence[str] = ()
) -> Side:
    """Open the labels of a store as truths.

    Args:
        path: Folder or URL of the store.
        split: Split to score; all of them by default.
        label: Name of the label.
        foreground: Classes that are foreground, for labels of kind ``classes``.
        classes: Names of all classes, the background first, to read positions of classes.

    Raises:
        UserError: if store, split or label do not exist, classes need a foreground, or the label has other classes.
    """
    return Side(path, tuple(_label(path, each, label, foreground, classes) for each in list_samples(path, split)))


def prediction_store(
    path: str, split: str | None, label: str | None, classes: Sequence[str] = (), truth_label: str = ""
) -> Side:
    """Open what ``lightning predict`` wrote, or labels of any store, as predictions.

    Args:
        path: Folder or URL of the store.
        split: Split to score; all of them by default.
        label: Name of a label to take instead of probabilities, or instead of the predicted classes.
        classes: Names of all classes, the background first, to read positions of classes.
        truth_label: Name of the truth's label, which that of predicted classes has too.

    Raises:
        UserError: if store, split or label do not exist, images are no probabilities, a label has other classes, or
            pixels are marked because the network gave no finite value.
    """
    images = []
    for sample in list_samples(path, split):
        chosen = label
        if classes and label is None:
            chosen = truth_label
            if not _is_prediction(sample) or truth_label not in sample.labels:
                wrong = "is no prediction of `lightning predict`"
                if _is_prediction(sample):
                    wrong = f"has no label {truth_label!r}"
                raise UserError(
                    f"{sample.key} in {path} {wrong}: pass --prediction-label NAME to score one of its labels "
                    f"({', '.join(sample.labels) or 'none'})"
                )
        _refuse_marked(path, sample, chosen if classes else None)
        images.append(_probability(path, sample) if chosen is None else _label(path, sample, chosen, (), classes))
    return Side(path, tuple(images))


def class_names(path: str, split: str | None, label: str) -> list[str]:
    """Read the names of all classes of a truth store, in the order of its label, the class of value 0 first.

    Raises:
        UserError: if it has no classes, or none has the value 0.
    """
    sample = list_samples(path, split)[0]
    what = f"label {label!r} of {sample.key} in {path}"
    classes = _class_info(sample, label, what).classes
    if 0 not in classes:
        raise UserError(
            f"{what} has no class of the value 0, the background, but {dict(classes)}: name the "
            "classes, the background first, as in --classes '[background, mitochondrion]'"
        )
    return [classes[0], *(name for value, name in classes.items() if value)]


def list_samples(path: str, split: str | None) -> list[Sample]:
    """List the samples of a store, or of one split of it.

    Raises:
        UserError: if there is no such store or split, or no sample.
    """
    samples = MosaicStore(path).samples(split)
    if not samples:
        raise UserError(f"store {path} has no samples: convert images into it with `emseg data convert`")
    return samples


def _class_info(sample: Sample, label: str, what: str) -> LabelInfo:
    info = sample.label(label).info
    assert info is not None
    if info.kind != "classes":
        raise UserError(f"{what} is {info.kind}, so that it has no classes: leave out --classes")
    return info


def _label(
    path: str, sample: Sample, label: str, foreground: Sequence[str | int], classes: Sequence[str]
) -> ScoredImage:
    what, info = f"label {label!r} of {sample.key} in {path}", sample.label(label).info
    if classes:
        known = list(_class_info(sample, label, what).classes.values())
        lacking, more = [name for name in classes if name not in known], [name for name in known if name not in classes]
        if lacking or more:
            differ = [f"lacks {lacking}" if lacking else "", f"also has {more}" if more else ""]
            raise UserError(
                f"{what} {' and '.join(filter(None, differ))}, where {list(classes)} are scored: both sides need the "
                "same classes by name, all of them; convert one again with the names of the other, or score one by "
                "--foreground"
            )
        view = MosaicView.of(sample, label, classes=classes)
    else:
        if info is not None and info.kind == "classes" and not foreground:
            raise UserError(
                f"{what} has classes ({', '.join(info.classes.values())}): say which are foreground, e.g. --foreground "
                "'[mitochondrion]', or have `emseg score` score each of them with --classes all"
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
        classes=tuple(view.classes),
    )


def _probability(path: str, sample: Sample) -> ScoredImage:
    if not _is_prediction(sample) and sample.labels:
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
        "probability" if _is_prediction(sample) else "file",
        lambda: view.read_image(origin, view.shape),
        view.pixel_size_nm,
        None if threshold is None else (float(threshold), str(made.get("threshold_source", "unknown"))),
    )


def _is_prediction(sample: Sample) -> bool:
    return "threshold" in sample.provenance and "checkpoint" in sample.provenance


def _refuse_marked(path: str, sample: Sample, label: str | None) -> None:
    """Refuse a prediction with pixels that the network gave no finite value for, of one label or all binary ones."""
    if not _is_prediction(sample):
        return
    # Error layers have classes, and 255 where the truth is unknown.
    infos = [sample.label(label).info] if label else [each.info for each in sample.labels.values()]
    for info in infos:
        marked = info.counts.get(IGNORE, 0) if info and (label or info.kind == "binary") else 0
        if marked:
            raise UserError(
                f"prediction {sample.key} in {path} has {marked} px that the network gave no finite value for (marked "
                f"by non_finite: mark), and scores of what is left would flatter it: predict it again, or leave it out "
                "with --samples"
            )


@dataclass(frozen=True)
class Pair:
    """A prediction and its truth, of the same size.

    Attributes:
        key: Name in tables and files.
        prediction: Image of the network, or of another annotator.
        truth: Image that it is scored against.
    """

    key: str
    prediction: ScoredImage
    truth: ScoredImage


@dataclass(frozen=True)
class Pairing:
    """What is scored, and what is not.

    Attributes:
        pairs: One or more pairs, in the order of the predictions.
        only_prediction: Names without a truth.
        only_truth: Names without a prediction.
    """

    pairs: tuple[Pair, ...]
    only_prediction: tuple[str, ...] = ()
    only_truth: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """Sentences on names without a partner."""
        parts = (
            ("predictions without a truth", self.only_prediction),
            ("truths without a prediction", self.only_truth),
        )
        return [f"not scored, {what}: {_listed(names)}" for what, names in parts if names]


def pair_up(prediction: Side, truth: Side, samples: Sequence[str] | None = None) -> Pairing:
    """Match by ``<split>/<sample>`` where both sides have such names in common, else by name alone.

    Two image files match whatever their names, page by page where they hold several.

    Args:
        prediction: One side.
        truth: The other.
        samples: Names of those to score, with or without their split; all by default.

    Raises:
        UserError: if there are no common names, a name is there twice or not at all, or sizes differ.
    """
    if prediction.single_file and truth.single_file:
        if len(prediction.images) != len(truth.images):
            raise UserError(
                f"{prediction.what} holds {len(prediction.images)} page(s) and {truth.what} {len(truth.images)}: both "
                "need the same number, page by page"
            )
        return Pairing(tuple(map(_pair, prediction.images, truth.images)))
    keys, others = ({image.key for image in side.images} for side in (prediction, truth))
    by_key = bool(keys & others)
    predictions, truths = _choose(prediction, by_key, samples), _choose(truth, by_key, samples)
    common = [key for key in predictions if key in truths]
    if not common:
        raise UserError(
            f"no common names: {prediction.what} has {_listed(list(predictions))}; {truth.what} has "
            f"{_listed(list(truths))}: rename one side, or choose others with --split and --samples"
        )
    pairs = tuple(_pair(predictions[key], truths[key]) for key in common)
    lonely = tuple(key for key in predictions if key not in truths)
    return Pairing(pairs, lonely, tuple(key for key in truths if key not in predictions))


def _choose(side: Side, by_key: bool, samples: Sequence[str] | None) -> dict[str, ScoredImage]:
    images = side.images
    if samples is not None:
        known = {name for image in images for name in (image.key, image.name)}
        if missing := [sample for sample in samples if sample not in known]:
            raise UserError(f"{side.what} has no {_listed(missing)} (--samples); it has: {_listed(sorted(known))}")
        images = tuple(image for image in images if image.key in samples or image.name in samples)
    names = [image.key if by_key else image.name for image in images]
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise UserError(f"{side.what} has several {_listed(twice)}: say which with --split")
    return dict(zip(names, images, strict=True))


def _pair(prediction: ScoredImage, truth: ScoredImage) -> Pair:
    if prediction.shape != truth.shape:
        sizes = [" × ".join(map(str, image.shape)) for image in (prediction, truth)]
        raise UserError(
            f"sizes differ: {prediction.what} is {sizes[0]} px and {truth.what} is {sizes[1]} px: they must show "
            "the same pixels, so crop or resize one of them first"
        )
    # The name of the truth's sample is that of the score files of a run.
    return Pair(truth.key if "/" in truth.key else prediction.key, prediction, truth)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more
