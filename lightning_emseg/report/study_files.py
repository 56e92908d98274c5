"""What a finished attribution study leaves for people: tables, curves, a panel, and text for a terminal."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from data_modules.store import MosaicView
from lightning_emseg.attribution.area import NORMALISATION, THRESHOLDS
from lightning_emseg.attribution.extent import EXTENTS
from lightning_emseg.attribution.offline.fields_store import FieldsStore
from lightning_emseg.attribution.offline.plan import FIELDS
from lightning_emseg.attribution.offline.study import Study
from lightning_emseg.attribution.points import OUTCOMES
from lightning_emseg.attribution.table import EVERY, Row, summarise
from lightning_emseg.attribution.windows import read_window
from lightning_emseg.report.area_curve import AreaSeries, area_figure
from lightning_emseg.report.area_table import json_records, point_records, summary_records, summary_text, write_records
from lightning_emseg.report.overlay import Picture, save
from lightning_emseg.report.window_panel import window_panel

CURVES = tuple(dict.fromkeys(f"curve{extent.suffix}.png" for some in EXTENTS.values() for extent in some))
"""Files that `write_curves` may write."""
_SHOWN_EACH = 2
"""Pixels of each outcome in the panel: two full rows of four."""


def write_tables(folder: Path, study: Study) -> str:
    """Write ``points.csv``, ``summary.csv`` and ``summary.json``; returns the text for the terminal."""
    k = study.thresholds
    write_records(folder / "points.csv", point_records(study.rows, k, THRESHOLDS))
    summaries = summarise(study.rows, k, THRESHOLDS)
    write_records(folder / "summary.csv", summary_records(summaries))
    accuracy = study.accuracy(k)
    record = {
        "summary": json_records(summaries),
        "curve": json_records(summarise(study.rows, k, k)),
        "fast_against_exact": accuracy and asdict(accuracy),
        "exact_completeness_error": study.exact_completeness,
        "seconds_per_pixel": _seconds(study),
        "normalisation": NORMALISATION,
        "method": study.windows[0]["method"],
        "settings": study.plan.settings,
    }
    (folder / "summary.json").write_text(json.dumps(record, indent=1) + "\n")
    table = summary_text(summaries, study.accuracy([k[0], *THRESHOLDS]), study.exact_completeness)
    return "\n".join([_headline(study), table, *_shortage(study), _speed(study)])


def write_curves(folder: Path, study: Study) -> list[Path]:
    """Write ``curve.png``: S_k against k, a line an outcome; of volumes ``curve_xy.png`` too, of what it covers."""
    by_outcome = [(name, [row for row in study.rows if row.outcome == name]) for name in OUTCOMES]
    named = [(name, rows) for name, rows in by_outcome if rows] or [(EVERY, list(study.rows))]
    return write_figures(folder, "curve", study.thresholds, named)


def write_figures(
    folder: Path, name: str, thresholds: Sequence[float], named: Sequence[tuple[str, Sequence[Row]]]
) -> list[Path]:
    """Write S_k against k, a line for each named series of pixels, one file for each of their extents."""
    paths = []
    for number, size in enumerate(named[0][1][0].sizes):
        path = folder / f"{name}{size.extent.suffix}.png"
        area_figure(thresholds, [_series(line, rows, number) for line, rows in named], size.extent).savefig(path)
        paths.append(path)
    return paths


def _series(name: str, rows: Sequence[Row], number: int) -> AreaSeries:
    """One extent of some pixels' fields; window and pixel size are means where they differ."""
    sizes = [row.sizes[number] for row in rows]
    areas = np.array([size.counts for size in sizes], np.float64) * np.array([[size.place_nm] for size in sizes])
    window = float(np.mean([size.window * size.place_nm for size in sizes]))
    in_plane = [math.sqrt(row.sizes[-1].place_nm) for row in rows]
    return AreaSeries(name, areas, window, round(float(np.mean(in_plane)), 3))


def write_panel(folder: Path, study: Study, view: MosaicView, probability: Picture) -> Path:
    """Write ``panels.png``: pixels of the first window with their fields.

    Args:
        folder: Of the study.
        study: With a label.
        view: Mosaic of the first window.
        probability: Of the first window, ``uint8 (*S)``, 255 for certain foreground.
    """
    plan, store = study.plan, FieldsStore(folder / FIELDS)
    chosen, rows = plan.parts[0].chosen, store.read(plan.name(0)).rows
    window = read_window(view, chosen.place, tuple(study.windows[0]["window_px"]))
    ranks = [chosen.outcomes[:at].count(outcome) for at, outcome in enumerate(chosen.outcomes)]
    places = sorted((at for at, rank in enumerate(ranks) if rank < _SHOWN_EACH), key=lambda at: (ranks[at], at))
    shown = [(rows[at], store.read_field(plan.name(0), at)) for at in places]
    reach = study.windows[0]["reach_px"]
    picture = window_panel(window, probability, shown, study.thresholds, reach)
    save(picture, folder / "panels.png")
    return folder / "panels.png"


def nm_text(sizes: Sequence[float]) -> str:
    """Pixel size for people.

    >>> nm_text((4.0, 4.0)), nm_text((40.0, 4.6, 4.6))
    ('4', '40 × 4.6 × 4.6')
    """
    return f"{sizes[0]:.4g}" if len(set(sizes)) == 1 else " × ".join(f"{size:.4g}" for size in sizes)


def pixel_sizes(study: Study, key: str) -> str:
    """Pixel sizes of all windows, before (``mosaic_pixel_size_nm``) or after (``pixel_size_nm``) resizing."""
    found = dict.fromkeys(nm_text(window[key]) for window in study.windows)
    return ", ".join(found)


def _headline(study: Study) -> str:
    method, settings = study.plan.settings["method"], study.plan.settings
    shapes = dict.fromkeys(" × ".join(map(str, window["window_px"])) for window in study.windows)
    before, after = pixel_sizes(study, "mosaic_pixel_size_nm"), pixel_sizes(study, "pixel_size_nm")
    parts = [f"{key} {value}" for key, value in method.items() if key in ("steps", "rule", "output", "baseline")]
    reach = study.windows[0]["reach_px"]
    return (
        f"{method['method']} of {len(study.rows)} pixels in {len(study.windows)} windows of {', '.join(shapes)} px, "
        f"{settings['sampling']} sampling, seed {settings['seed']}\n"
        f"{', '.join(parts)}; {after} nm/px" + (f" (mosaics: {before} nm/px)" if before != after else "") + "; "
        f"threshold {settings['threshold']:.3f} ({settings['threshold_source']})"
        + (f"; fields cut off at {nm_text(reach)} px" if reach else "")
    )


def _shortage(study: Study) -> list[str]:
    """A line where outcomes have fewer pixels than were asked for, as is usual of sparse foreground."""
    settings = study.plan.settings
    if settings["sampling"] != "stratified" or settings["label"] is None:
        return []
    wanted = settings["points"] // len(OUTCOMES)
    counts = {name: sum(row.outcome == name for row in study.rows) for name in OUTCOMES}
    short = ", ".join(f"{count} of {wanted} {name}" for name, count in counts.items() if count < wanted)
    if not short:
        return []
    if settings["windows"] is None:
        return [f"fewer pixels than asked for: {short}; there are no more"]
    return [f"fewer pixels than asked for in {settings['windows']} windows: {short}; --windows null chooses from all"]


def _seconds(study: Study) -> dict[str, float | None]:
    exact_pixels = sum(int(window["exact_pixels"]) for window in study.windows)
    exact = sum(float(window["exact_seconds"]) for window in study.windows)
    every = sum(float(window["seconds"]) for window in study.windows)
    return {"all": every / len(study.rows), "exact": exact / exact_pixels if exact_pixels else None}


def _speed(study: Study) -> str:
    seconds = _seconds(study)
    compared = "" if seconds["exact"] is None else f", {seconds['exact']:.2f} s where exact fields were computed alone"
    return f"{seconds['all']:.2f} s a pixel{compared}"
