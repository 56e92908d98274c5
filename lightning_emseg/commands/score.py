"""``emseg score``: any predictions against any truths."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from data_modules.errors import UserError
from data_modules.images.pages import Page, find_images
from data_modules.store.layout import is_url
from lightning_emseg.core.tables import json_text, write_json
from lightning_emseg.evaluation.compare import Options, PairScores, PanelName, compare
from lightning_emseg.evaluation.compare_classes import compare_classes
from lightning_emseg.evaluation.competitions import OfficialName
from lightning_emseg.evaluation.pairs import pair_up
from lightning_emseg.evaluation.reading import GivenPolarity
from lightning_emseg.evaluation.sources import (
    ScoredImage,
    Side,
    checked_names,
    class_predictions,
    class_truths,
    names_of_truth,
    prediction_store,
    truth_store,
)


def score(
    prediction: str,
    truth: str,
    split: str | None = None,
    samples: list[str] | None = None,
    label: str = "membrane",
    prediction_label: str | None = None,
    foreground: list[str | int] | None = None,
    classes: list[str] | Literal["all"] | None = None,
    prediction_polarity: GivenPolarity = "auto",
    truth_polarity: GivenPolarity = "auto",
    threshold: str | None = None,
    panel: PanelName = "fast",
    official: OfficialName | None = None,
    pixel_size_nm: float | None = None,
    json: bool = False,
    out: Path | None = None,
) -> str:
    """Score predictions against truths: a row an image, and mean ± SE.

    Both sides are an image, a folder of images, FILE.h5:dataset, or a store, in any mix. Pages of a stack are images of
    their own; volumes come from stores.

    Args:
        prediction: Probabilities (0–1 in floating point, else the share of 8 or 16 bits) or masks; with --classes the
            number of each pixel's class, 255 for unknown.
        truth: Masks. In image files the values 0, 1 and 255 together are background, foreground and ignored; with
            --classes the number of each pixel's class, 255 for ignored.
        split: Of stores; all splits by default.
        samples: Names of those to score, e.g. '["15"]'; all with a partner by default.
        label: Of a truth store; also names the foreground in columns.
        prediction_label: Of a prediction store, to score a label instead of its probabilities, e.g. membrane_round1.
        foreground: Classes that are foreground, for a label of kind classes.
        classes: Score each of several classes, and their mean: names of all of them, the background first, e.g.
            '[background, mitochondrion, nucleus]', or all for those of a truth store. Labels of stores match by
            these names; values in image files are those of the truth store's label, or else places in this list.
        prediction_polarity: Whether predicted membranes are bright or dark in image files; auto takes the majority
            for background, and says so.
        truth_polarity: Whether true membranes are bright or dark in image files.
        threshold: A number above 0 and up to 1; sweep for the best mean F1 on these images; run:PATH for that of a run
            folder, score file or checkpoint. By default what the predictions record, else 0.5.
        panel: fast has pixel scores; full also judges cells and borders.
        official: Add the scores of a competition: urisc, isbi2012 or cremi.
        pixel_size_nm: Side of a pixel, where image files are scored in nm.
        json: Print JSON, and nothing else on standard output.
        out: Folder for scores.json and scores.csv, in full precision.

    Raises:
        UserError: if something cannot be read, matched or scored; the message names the file and what to do.
    """
    if pixel_size_nm is not None and not pixel_size_nm > 0:
        raise UserError(f"--pixel-size-nm {pixel_size_nm}: give the side of a pixel in nanometers, above 0")
    if prediction_label is not None and not _is_store(prediction):
        raise UserError(f"--prediction-label {prediction_label} is for stores, and {prediction} is none: leave it out")
    options = Options(label, threshold, panel, official, pixel_size_nm, prediction_polarity, truth_polarity)
    names = () if classes is None else _names(classes, truth, split, options, foreground)
    if names:
        sides = _of_classes(prediction, truth, split, label, prediction_label, names)
    else:
        sides = _of_foreground(prediction, truth, split, label, prediction_label, foreground or ())
    pairing = pair_up(*sides, samples)
    if out is not None:
        _make_folder(out)
    scores = compare_classes(pairing, names, options) if names else compare(pairing, options)
    content = {"prediction": prediction, "truth": truth, **scores.to_json()}
    if out is not None:
        _write(out, content, scores)
    if not json:
        return scores.table.text(scores.notes) + (f"\n{out / 'scores.json'}, {out / 'scores.csv'}" if out else "")
    print("\n".join(scores.notes), file=sys.stderr)
    return json_text(content)


def _of_foreground(
    prediction: str,
    truth: str,
    split: str | None,
    label: str,
    prediction_label: str | None,
    foreground: Sequence[str | int],
) -> tuple[Side, Side]:
    predictions = prediction_store(prediction, split, prediction_label) if _is_store(prediction) else _files(prediction)
    truths = truth_store(truth, split, label, foreground) if _is_store(truth) else _files(truth)
    return predictions, truths


def _of_classes(
    prediction: str, truth: str, split: str | None, label: str, prediction_label: str | None, names: Sequence[str]
) -> tuple[Side, Side]:
    truths = class_truths(truth, split, label, names) if _is_store(truth) else _files(truth, as_values=True)
    if not _is_store(prediction):
        return _files(prediction, as_values=True), truths
    return class_predictions(prediction, split, prediction_label, label, names), truths


def _names(
    classes: list[str] | Literal["all"],
    truth: str,
    split: str | None,
    options: Options,
    foreground: Sequence[str | int] | None,
) -> tuple[str, ...]:
    """Names of all classes; options of one foreground are refused."""
    of_one = {
        "--foreground": foreground is not None,
        "--threshold": options.threshold is not None,
        "--official": options.official is not None,
        "--prediction-polarity": options.prediction_polarity != "auto",
        "--truth-polarity": options.truth_polarity != "auto",
    }
    if given := [option for option, is_given in of_one.items() if is_given]:
        raise UserError(f"{', '.join(given)}: for scores of one foreground, so leave it out or leave out --classes")
    if classes != "all":
        return checked_names(classes)
    if not _is_store(truth):
        raise UserError(
            f"--classes all takes the names from a truth store, and {truth} is none: name them in the order of their "
            "values, e.g. --classes '[background, mitochondrion, nucleus]'"
        )
    return names_of_truth(truth, split, options.label)


def _is_store(spec: str) -> bool:
    return is_url(spec) or spec.rstrip("/").endswith(".zarr") or (Path(spec) / "zarr.json").is_file()


def _files(spec: str, as_values: bool = False) -> Side:
    sources = tuple(_source(page, as_values) for page in find_images(spec))
    return Side(spec, sources, single_file=not Path(spec).is_dir())


def _source(page: Page, as_values: bool) -> ScoredImage:
    return ScoredImage(page.name, page.name, page.what, page.shape(), "file", lambda: page.read(as_values).pixels)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be made ({error.strerror}): choose another folder") from error


def _write(out: Path, content: dict[str, object], scores: PairScores) -> None:
    write_json(out / "scores.json", content)
    scores.table.write_csv(out / "scores.csv")
