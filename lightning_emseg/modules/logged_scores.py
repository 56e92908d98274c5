"""Names and values of the scores that modules log."""

from collections.abc import Collection, Sequence

from lightning_emseg.metrics.auc import roc_auc
from lightning_emseg.metrics.confusion import class_scores
from lightning_emseg.metrics.histogram import Counts
from lightning_emseg.metrics.pixel import Values, average_precision, confusion_at
from lightning_emseg.metrics.table import ScoreTable

# Of the foreground; the score files have every column.
_LOGGED = ("f1", "precision", "recall", "iou", "average_precision", "roc_auc", "background_f1")


def tile_scores(counts: Counts, level: int, loss: float) -> dict[str, float]:
    """``val_tiles/*``: scores of the pixels of all tiles pooled.

    Args:
        counts: ``int64 (2, 256)``.
        level: Quantised threshold.
        loss: Mean loss of a tile.
    """
    found = confusion_at(counts, level)
    values: dict[str, float | Values] = {
        "loss": loss,
        "f1": found.f1,
        "precision": found.precision,
        "recall": found.recall,
        "iou": found.iou,
        "background_f1": found.of_background().f1,
        "average_precision": average_precision(counts),
        "roc_auc": roc_auc(counts),
        "threshold": level / 255,
    }
    return {f"val_tiles/{name}": float(value) for name, value in values.items()}


def class_tile_scores(counts: Counts, classes: Sequence[str], loss: float) -> dict[str, float]:
    """``val_tiles/*``: means over all classes but the background, and the IoU of each, of all tiles pooled.

    Args:
        counts: ``int64 (C, C)``, a row for each true class.
        classes: Names, the background first.
        loss: Mean loss of a tile.
    """
    found = class_scores(counts, classes)
    short = {name.removeprefix("mean_"): value for name, value in found.items() if name.startswith("mean_")}
    ious = {f"{name}_iou": found[f"{name}_iou"] for name in ("background", *classes[1:])}
    values = {"loss": loss, **short, "background_f1": found["background_f1"], **ious}
    return {f"val_tiles/{name}": value for name, value in values.items()}


def mosaic_scores(verb: str, table: ScoreTable, columns: Collection[str]) -> dict[str, float]:
    """``val/*`` or ``test/*``: means over mosaics and their standard errors, the foreground's without its name.

    Args:
        verb: ``val`` or ``test``.
        table: Of whole mosaics.
        columns: Those that are logged beside the pixel scores of the foreground, without its name.
    """
    values = {}
    for name, summary in table.summary.items():
        short = name.removeprefix(f"{table.label}_")
        if short in _LOGGED or short in columns:
            values[f"{verb}/{short}"] = summary.mean
            if summary.se is not None:
                values[f"{verb}/{short}_se"] = summary.se
    return values
