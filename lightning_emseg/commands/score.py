"""``emseg score``: any predictions against any truths."""

import sys
from pathlib import Path
from typing import Literal

from data_modules.errors import UserError
from data_modules.images.pages import Page, find_images
from data_modules.store.layout import is_url
from lightning_emseg.core.tables import json_text, write_json
from lightning_emseg.evaluation.competitions import Competition
from lightning_emseg.evaluation.evaluator import Evaluator
from lightning_emseg.evaluation.pair_scores import PanelName, score_pairs
from lightning_emseg.evaluation.reading import GivenPolarity, PairReader
from lightning_emseg.evaluation.sources import ScoredImage, Side, class_names, pair_up, prediction_store, truth_store


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
    official: Competition | None = None,
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
        split: Split to score (stores only); all splits by default.
        samples: Names of those to score, e.g. '["15"]'; all with a partner by default.
        label: Label of a truth store; also names the foreground in columns.
        prediction_label: Label of a prediction store to score instead of its probabilities, e.g. membrane_round1.
        foreground: Classes that are foreground, for a label of kind classes.
        classes: Several classes to score, each of them and their mean: names of all of them, the background first, e.g.
            '[background, mitochondrion, nucleus]', or all for those of a truth store. Labels of stores match by
            these names; values in image files are those of the truth store's label, or else places in this list.
        prediction_polarity: Brightness of predicted membranes in image files; auto takes the majority
            for background, and says so.
        truth_polarity: Brightness of true membranes in image files.
        threshold: Number above 0 and up to 1; sweep for the best mean F1 on these images; run:PATH for that of a run
            folder, score file or checkpoint. By default what the predictions record, else 0.5.
        panel: Metrics to compute: fast has pixel scores; full also judges cells and borders.
        official: Competition whose scores are added: urisc, isbi2012 or cremi.
        pixel_size_nm: Side of a pixel, where image files are scored in nm.
        json: Whether to print JSON, and nothing else, on standard output.
        out: Folder for scores.json and scores.csv, in full precision.

    Raises:
        UserError: if something cannot be read, matched or scored; the message names the file and what to do.
    """
    if pixel_size_nm is not None and not pixel_size_nm > 0:
        raise UserError(f"--pixel-size-nm {pixel_size_nm}: give the side of a pixel in nanometers, above 0")
    if prediction_label is not None and not _is_store(prediction):
        raise UserError(f"--prediction-label {prediction_label} is for stores, and {prediction} is none: leave it out")
    evaluator = Evaluator()
    if classes is not None:
        of_one = {
            "--foreground": foreground is not None,
            "--threshold": threshold is not None,
            "--official": official is not None,
            "--prediction-polarity": prediction_polarity != "auto",
            "--truth-polarity": truth_polarity != "auto",
        }
        if given := [option for option, is_given in of_one.items() if is_given]:
            raise UserError(f"{', '.join(given)}: for scores of one foreground, so leave it out or leave out --classes")
        if classes == "all" and not _is_store(truth):
            raise UserError(
                f"--classes all takes the names from a truth store, and {truth} is none: name them in the order of "
                "their values, e.g. --classes '[background, mitochondrion, nucleus]'"
            )
        evaluator = Evaluator(class_names(truth, split, label) if classes == "all" else classes, "--classes")
    names, as_values = evaluator.classes, classes is not None
    truths = truth_store(truth, split, label, foreground or (), names) if _is_store(truth) else _files(truth, as_values)
    predictions = (
        prediction_store(prediction, split, prediction_label, names, label)
        if _is_store(prediction)
        else _files(prediction, as_values)
    )
    pairing = pair_up(predictions, truths, samples)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {out} cannot be made ({error.strerror}): choose another folder") from error
    reader = PairReader(names, prediction_polarity, truth_polarity)
    table, notes, record = score_pairs(pairing, evaluator, reader, label, threshold, panel, official, pixel_size_nm)
    content = {"prediction": prediction, "truth": truth, **table.to_json(), "notes": notes, **record}
    if out is not None:
        write_json(out / "scores.json", content)
        table.write_csv(out / "scores.csv")
    if not json:
        return table.text(notes) + (f"\n{out / 'scores.json'}, {out / 'scores.csv'}" if out else "")
    print("\n".join(notes), file=sys.stderr)
    return json_text(content)


def _is_store(spec: str) -> bool:
    return is_url(spec) or spec.rstrip("/").endswith(".zarr") or (Path(spec) / "zarr.json").is_file()


def _files(spec: str, as_values: bool) -> Side:
    sources = tuple(_source(page, as_values) for page in find_images(spec))
    return Side(spec, sources, single_file=not Path(spec).is_dir())


def _source(page: Page, as_values: bool) -> ScoredImage:
    return ScoredImage(page.name, page.name, page.what, page.shape(), "file", lambda: page.read(as_values))
