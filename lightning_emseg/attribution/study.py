"""Offline studies: many pixels of whole mosaics, window by window, continued where they were cut short; their files."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from data_modules.store import MosaicView
from lightning_emseg.attribution.areas import (
    EXTENTS,
    NORMALISATION,
    THRESHOLDS,
    Accuracy,
    Difference,
    compare_fields,
    summarise_accuracy,
)
from lightning_emseg.attribution.measurement import (
    MeasuredPixel,
    StudySetting,
    WorkUnit,
    exact_units,
    measure_units,
    shared_units,
)
from lightning_emseg.attribution.method import BoundMethod, Field
from lightning_emseg.attribution.pictures import AreaSeries, area_figure, window_figure
from lightning_emseg.attribution.points import OUTCOMES
from lightning_emseg.attribution.study_store import (
    FIELDS_STORE,
    FieldsStore,
    PlannedWindow,
    StudyPlan,
    WindowResult,
    as_json,
    read_plan,
)
from lightning_emseg.attribution.table import (
    EVERY,
    FieldRow,
    json_records,
    mean_completeness,
    point_records,
    relative_error,
    summarise,
    summary_records,
    summary_text,
)
from lightning_emseg.attribution.windows import read_window
from lightning_emseg.core.pictures import Picture
from lightning_emseg.core.tables import write_csv, write_json

CURVE = tuple(sorted({*(float(f"{10 ** (step / 10 - 3):.6g}") for step in range(31)), *THRESHOLDS}))
"""Thresholds of the S_k against k curve: ten a decade from 0.001 to 1, and those of the tables."""
# As many as share forward passes anyway; all pixels of a dense grid at once would not fit in memory.
_UNITS_AT_ONCE = 64


@dataclass(frozen=True)
class Study:
    """A finished study, as it is read from its folder.

    Attributes:
        plan: Plan of what was computed.
        rows: One a pixel.
        thresholds: K values k.
        differences: Differences of fast fields to exact ones, on the pixels that were checked.
        windows: Attributes of the windows' groups, in the order of the plan.
    """

    plan: StudyPlan
    rows: tuple[FieldRow, ...]
    thresholds: tuple[float, ...]
    differences: tuple[Difference, ...]
    windows: tuple[dict[str, Any], ...]

    @property
    def exact_completeness(self) -> float | None:
        """Mean relative completeness error of the exact fields of checked pixels; ``None`` where there are none.

        That of fast fields is larger, as they are cut off.
        """
        return mean_completeness([error for window in self.windows for error in window["exact_completeness_errors"]])

    def accuracy(self, wanted: Sequence[float]) -> Accuracy | None:
        """Pool the errors of fast fields at some of the thresholds; ``None`` where nothing was checked."""
        places = [self.thresholds.index(k) for k in wanted]
        some = [
            Difference(
                tuple(each.areas[at] for at in places), tuple(each.exact_areas[at] for at in places), each.correlation
            )
            for each in self.differences
        ]
        return summarise_accuracy(some, wanted)


def run_study(plan: StudyPlan, method: BoundMethod, setting: StudySetting, folder: Path, device: torch.device) -> None:
    """Compute what is not there yet of a study.

    In the first window the exact fields of its checked pixels show how far fields reach; all others use the same.

    Args:
        plan: The work.
        method: Method that attributes.
        setting: The windows; its views are those that the plan refers to.
        folder: Folder of the study; fields go to ``fields.zarr`` in it.
        device: Device of the network.
    """
    store = FieldsStore(folder / FIELDS_STORE)
    store.begin()
    done = [store.has(plan.name(number)) for number in range(len(plan.parts))]
    if done[0]:
        reach = store.read(plan.name(0)).attributes["reach_px"]
        method.reach = None if reach is None else tuple(reach)
    counts = [len(part.chosen.pixels) for part in plan.parts]
    before = sum(count for count, finished in zip(counts, done, strict=True) if finished)
    with tqdm(total=sum(counts), initial=before, desc="attribute", unit="px", disable=None) as bar:
        for number, part in enumerate(plan.parts):
            if not done[number]:
                _attribute(part, plan.name(number), number == 0, method, setting, store, device)
                bar.update(counts[number])


def read_study(folder: Path) -> Study:
    """Read a study.

    Raises:
        UserError: if there is none, or it is not finished.
    """
    plan, store = read_plan(folder), FieldsStore(folder / FIELDS_STORE)
    results = [store.read(plan.name(number)) for number in range(len(plan.parts))]
    return Study(
        plan,
        tuple(row for result in results for row in result.rows),
        tuple(plan.settings["thresholds"]),
        tuple(difference for result in results for difference in result.checks.values()),
        tuple(result.attributes for result in results),
    )


def _attribute(
    part: PlannedWindow,
    name: str,
    is_first: bool,
    method: BoundMethod,
    setting: StudySetting,
    store: FieldsStore,
    device: torch.device,
) -> None:
    chosen = part.chosen
    window = setting.read(chosen.place)
    exact, exact_seconds = _timed(method, setting, exact_units(chosen, part.checked), device)
    if is_first and method.reach is None:
        method.calibrate([field for _, field in exact], THRESHOLDS[0])
    units = shared_units(method, chosen, range(len(chosen.pixels)), setting.resize)
    found, seconds = _timed(method, setting, units, device)
    by_pixel = {field.pixel: (row, field) for row, field in found}
    ordered = [by_pixel[pixel] for pixel in chosen.pixels]
    shape = window.truth.shape
    truth = {field.pixel: field for _, field in exact}
    checks = {
        at: compare_fields(
            ordered[at][1].whole(shape)[window.inside],
            truth[chosen.pixels[at]].whole(shape)[window.inside],
            setting.thresholds,
        )
        for at in part.checked
        if chosen.pixels[at] in truth
    }
    attributes = {
        "window_px": shape,
        "window_size_in_mosaic_px": chosen.place.size,
        "mosaic_pixel_size_nm": setting.views[chosen.place.mosaic].pixel_size_nm,
        "pixel_size_nm": window.pixel_size_nm,
        "thresholds": setting.thresholds,
        "reach_px": method.reach,
        "method": method.record,
        "seconds": seconds,
        "exact_seconds": exact_seconds,
        "exact_pixels": len(exact),
        "exact_completeness_errors": [relative_error(row) for row, _ in exact],
    }
    rows, fields = tuple(row for row, _ in ordered), [field for _, field in ordered]
    store.write(name, WindowResult(rows, checks, as_json(attributes)), fields, shape)


def _timed(
    method: BoundMethod, setting: StudySetting, units: Sequence[WorkUnit], device: torch.device
) -> tuple[list[tuple[FieldRow, Field]], float]:
    began = time.perf_counter()
    found: list[MeasuredPixel] = []
    for first in range(0, len(units), _UNITS_AT_ONCE):
        found += measure_units(method, setting, units[first : first + _UNITS_AT_ONCE], device)
    kept = [(each.row, each.field) for each in found if each.field is not None]
    return kept, time.perf_counter() - began


REPORT = "summary.txt"
"""Written last: a study that has it is finished."""
CURVE_FILES = tuple(dict.fromkeys(f"curve{extent.suffix}.png" for some in EXTENTS.values() for extent in some))
"""Files that `write_curves` may write."""
_SHOWN_EACH = 2
"""Pixels of each outcome in the panel: two full rows of four."""


def write_tables(folder: Path, study: Study) -> str:
    """Write ``points.csv``, ``summary.csv`` and ``summary.json``; returns the text for the terminal."""
    k = study.thresholds
    write_csv(folder / "points.csv", point_records(study.rows, k, THRESHOLDS))
    summaries = summarise(study.rows, k, THRESHOLDS)
    write_csv(folder / "summary.csv", summary_records(summaries))
    accuracy = study.accuracy(k)
    exact_pixels = sum(int(window["exact_pixels"]) for window in study.windows)
    exact_seconds = sum(float(window["exact_seconds"]) for window in study.windows)
    seconds = sum(float(window["seconds"]) for window in study.windows) / len(study.rows)
    exact = exact_seconds / exact_pixels if exact_pixels else None
    record = {
        "summary": json_records(summaries),
        "curve": json_records(summarise(study.rows, k, k)),
        "fast_against_exact": accuracy and asdict(accuracy),
        "exact_completeness_error": study.exact_completeness,
        "seconds_per_pixel": {"all": seconds, "exact": exact},
        "normalisation": NORMALISATION,
        "method": study.windows[0]["method"],
        "settings": study.plan.settings,
    }
    write_json(folder / "summary.json", record)
    table = summary_text(summaries, study.accuracy([k[0], *THRESHOLDS]), study.exact_completeness)
    compared = "" if exact is None else f", {exact:.2f} s where exact fields were computed alone"
    return "\n".join([_headline(study), table, *_shortage(study), f"{seconds:.2f} s a pixel{compared}"])


def write_curves(folder: Path, study: Study) -> list[Path]:
    """Write ``curve.png``: S_k against k, a line an outcome; of volumes ``curve_xy.png`` too, of what it covers."""
    by_outcome = [(name, [row for row in study.rows if row.outcome == name]) for name in OUTCOMES]
    named = [(name, rows) for name, rows in by_outcome if rows] or [(EVERY, list(study.rows))]
    return write_figures(folder, "curve", study.thresholds, named)


def write_figures(
    folder: Path, name: str, thresholds: Sequence[float], named: Sequence[tuple[str, Sequence[FieldRow]]]
) -> list[Path]:
    """Write S_k against k, a line for each named series of pixels, one file for each of their extents."""
    paths = []
    for number, size in enumerate(named[0][1][0].sizes):
        series = []
        for line, rows in named:
            sizes = [row.sizes[number] for row in rows]
            areas = np.array([s.counts for s in sizes], np.float64) * np.array([[s.place_nm] for s in sizes])
            # Means where they differ.
            window = float(np.mean([s.window * s.place_nm for s in sizes]))
            nm = float(np.mean([math.sqrt(row.sizes[-1].place_nm) for row in rows]))
            series.append(AreaSeries(line, areas, window, round(nm, 3)))
        paths.append(folder / f"{name}{size.extent.suffix}.png")
        area_figure(thresholds, series, size.extent).savefig(paths[-1])
    return paths


def write_panel(folder: Path, study: Study, view: MosaicView, probability: Picture) -> Path:
    """Write ``panels.png``: pixels of the first window with their fields.

    Args:
        folder: Folder of the study.
        study: Study with a label.
        view: Mosaic of the first window.
        probability: Probability of the first window, ``uint8 (*S)``, 255 for certain foreground.
    """
    plan, store = study.plan, FieldsStore(folder / FIELDS_STORE)
    chosen, rows = plan.parts[0].chosen, store.read(plan.name(0)).rows
    window = read_window(view, chosen.place, tuple(study.windows[0]["window_px"]))
    ranks = [chosen.outcomes[:at].count(outcome) for at, outcome in enumerate(chosen.outcomes)]
    places = sorted((at for at, rank in enumerate(ranks) if rank < _SHOWN_EACH), key=lambda at: (ranks[at], at))
    shown = [(rows[at], store.read_field(plan.name(0), at)) for at in places]
    reach = study.windows[0]["reach_px"]
    window_figure(window, probability, shown, study.thresholds, reach).savefig(folder / "panels.png")
    return folder / "panels.png"


def nm_text(sizes: Sequence[float]) -> str:
    """Format a pixel size.

    >>> nm_text((4.0, 4.0)), nm_text((40.0, 4.6, 4.6))
    ('4', '40 × 4.6 × 4.6')
    """
    return f"{sizes[0]:.4g}" if len(set(sizes)) == 1 else " × ".join(f"{size:.4g}" for size in sizes)


def pixel_sizes(study: Study, key: str) -> str:
    """Format pixel sizes of all windows, before (``mosaic_pixel_size_nm``) or after (``pixel_size_nm``) resizing."""
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
    """Say where outcomes have fewer pixels than were asked for, as is usual of sparse foreground."""
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
