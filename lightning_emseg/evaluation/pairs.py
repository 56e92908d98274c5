"""Finding the truth of every prediction by name."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data_modules.errors import UserError
from lightning_emseg.evaluation.sources import ScoredImage, Side

_MOST = 6
"""Names that a message lists."""


@dataclass(frozen=True)
class Pair:
    """A prediction and its truth, of the same size.

    Attributes:
        key: In tables and files.
        prediction: Of the network, or of another annotator.
        truth: It is scored against.
    """

    key: str
    prediction: ScoredImage
    truth: ScoredImage


@dataclass(frozen=True)
class Pairing:
    """What is scored, and what is not.

    Attributes:
        pairs: At least one, in the order of the predictions.
        only_prediction: Names without a truth.
        only_truth: Names without a prediction.
    """

    pairs: tuple[Pair, ...]
    only_prediction: tuple[str, ...] = ()
    only_truth: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What the user should hear about names without a partner."""
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
        return _pages(prediction, truth)
    name = _by_key if _names(prediction, _by_key) & _names(truth, _by_key) else _by_name
    predictions, truths = _chosen(prediction, name, samples), _chosen(truth, name, samples)
    common = [key for key in predictions if key in truths]
    if not common:
        raise UserError(
            f"no common names: {prediction.what} has {_listed(list(predictions))}; {truth.what} has "
            f"{_listed(list(truths))}: rename one side, or choose others with --split and --samples"
        )
    pairs = [_pair(predictions[key], truths[key]) for key in common]
    lonely = tuple(key for key in predictions if key not in truths)
    return Pairing(tuple(pairs), lonely, tuple(key for key in truths if key not in predictions))


def _by_key(source: ScoredImage) -> str:
    return source.key


def _by_name(source: ScoredImage) -> str:
    return source.name


def _names(side: Side, name: Callable[[ScoredImage], str]) -> set[str]:
    return {name(source) for source in side.sources}


def _chosen(side: Side, name: Callable[[ScoredImage], str], samples: Sequence[str] | None) -> dict[str, ScoredImage]:
    sources = side.sources
    if samples is not None:
        known = _names(side, _by_key) | _names(side, _by_name)
        if missing := [sample for sample in samples if sample not in known]:
            raise UserError(f"{side.what} has no {_listed(missing)} (--samples); it has: {_listed(sorted(known))}")
        sources = tuple(source for source in sources if source.key in samples or source.name in samples)
    if twice := [key for key, times in Counter(map(name, sources)).items() if times > 1]:
        raise UserError(f"{side.what} has several {_listed(twice)}: say which with --split")
    return {name(source): source for source in sources}


def _pages(prediction: Side, truth: Side) -> Pairing:
    if len(prediction.sources) != len(truth.sources):
        raise UserError(
            f"{prediction.what} holds {len(prediction.sources)} page(s) and {truth.what} {len(truth.sources)}: both "
            "need the same number, page by page"
        )
    return Pairing(tuple(_pair(*pages) for pages in zip(prediction.sources, truth.sources, strict=True)))


def _pair(prediction: ScoredImage, truth: ScoredImage) -> Pair:
    if prediction.shape != truth.shape:
        raise UserError(
            f"sizes differ: {prediction.what} is {_px(prediction)} and {truth.what} is {_px(truth)}: they must show "
            "the same pixels, so crop or resize one of them first"
        )
    # The name of the truth's sample is that of the score files of a run.
    return Pair(truth.key if "/" in truth.key else prediction.key, prediction, truth)


def _px(source: ScoredImage) -> str:
    return " × ".join(map(str, source.shape)) + " px"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more
