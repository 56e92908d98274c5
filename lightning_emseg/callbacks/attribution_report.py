"""What the attribution callback leaves behind: tables, pictures, scalars."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_info

from lightning_emseg.attribution.accuracy import Accuracy
from lightning_emseg.attribution.area import THRESHOLDS
from lightning_emseg.attribution.measurement import Found
from lightning_emseg.attribution.picks import Picks
from lightning_emseg.attribution.table import Summary, summarise
from lightning_emseg.callbacks.overlays import log_picture
from lightning_emseg.report.area_table import Record, point_records, summary_records, summary_text, write_records
from lightning_emseg.report.overlay import save
from lightning_emseg.report.window_panel import window_panel


@dataclass(frozen=True)
class AttributionReport:
    """One run of the callback.

    Attributes:
        picks: Windows with their chosen pixels.
        found: What was measured of each pixel.
        accuracy: Of fast fields, where they were compared with exact ones.
        record: Settings, JSON-ready.
    """

    picks: Sequence[Picks]
    found: Sequence[Found]
    accuracy: Accuracy | None
    record: Mapping[str, Any]


def publish(trainer: pl.Trainer, report: AttributionReport) -> None:
    """Write and log a report; called on rank 0."""
    assert trainer.state.fn is not None
    verb, fitting = trainer.state.fn.value, trainer.state.fn.value == "fit"
    folder = Path(trainer.default_root_dir) / "attribution"
    rows = [each.row for each in report.found]
    summaries = summarise(rows, THRESHOLDS, THRESHOLDS)
    when: Record = {"epoch": trainer.current_epoch, "step": trainer.global_step}
    points = [{**when, **record} for record in point_records(rows, THRESHOLDS, THRESHOLDS)]
    write_records(folder / f"points-{verb}.csv", points, append=fitting)
    means = [{**when, **record} for record in summary_records(summaries)]
    write_records(folder / f"summary-{verb}.csv", means, append=fitting)
    accuracy = report.accuracy and asdict(report.accuracy)
    windows = [
        {
            "mosaic": each.window.mosaic,
            "origin_px": each.chosen.place.origin,
            "size_px": each.window.truth.shape,
            "pixel_size_nm": each.window.pixel_size_nm,
        }
        for each in report.picks
    ]
    record = {**when, **report.record, "fast_against_exact": accuracy, "windows": windows}
    (folder / f"{verb}.json").write_text(json.dumps(record, indent=2) + "\n")
    text = summary_text(summaries, report.accuracy, report.record["exact_completeness_error"])
    rank_zero_info(f"\n{text}\n{folder / f'summary-{verb}.csv'}")
    for logger in trainer.loggers:
        logger.log_metrics(scalars(summaries, report), trainer.global_step)
        if isinstance(logger, WandbLogger):
            logger.log_table("attribution/points", list(points[0]), [list(point.values()) for point in points])
    _draw(trainer, report, f"epoch-{trainer.current_epoch:04d}" if fitting else verb)


def scalars(summaries: Sequence[Summary], report: AttributionReport) -> dict[str, float]:
    """Means, errors and numbers of pixels under names in ``attribution/``."""
    values: dict[str, float] = {}
    for each in summaries:
        place = f"{each.threshold:g}/{each.outcome}"
        for size in each.sizes:
            values[f"attribution/{size.extent.column}_{place}"] = size.nm
            values[f"attribution/share{size.extent.suffix}_{place}"] = size.share
            if size.nm_se is not None:
                values[f"attribution/{size.extent.column}_se_{place}"] = size.nm_se
        values[f"attribution/pixels/{each.outcome}"] = float(each.pixels)
        values[f"attribution/completeness_error/{each.outcome}"] = each.completeness
    if report.accuracy is not None:
        for k, error in zip(report.accuracy.thresholds, report.accuracy.mean_error, strict=True):
            values[f"attribution/fast_error_{k:g}"] = error
    values["attribution/validation_share"] = float(report.record["validation_share"])
    return values


def _draw(trainer: pl.Trainer, report: AttributionReport, name: str) -> None:
    for number, picks in enumerate(report.picks):
        if not picks.chosen.pixels:
            continue
        suffix = f"-{number}" if len(report.picks) > 1 else ""
        chosen = picks.chosen
        kept = {
            each.field.pixel: (each.row, each.field)
            for each in report.found
            if each.field is not None and each.place == chosen.place
        }
        fields = [kept[chosen.pixels[at]] for at in chosen.first_of_each()]
        reach = report.record.get("reach_px")
        picture = window_panel(picks.window, picks.probability, fields, THRESHOLDS, reach)
        save(picture, Path(trainer.default_root_dir) / "figures" / f"attribution-{name}{suffix}.png")
        for logger in trainer.loggers:
            log_picture(logger, f"attribution{suffix}", picture, trainer.global_step)
