"""The offline study: many pixels of whole mosaics, window by window, continued where it was cut short."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lightning_emseg.attribution.accuracy import Accuracy, Difference, compare
from lightning_emseg.attribution.accuracy import summarise as summarise_accuracy
from lightning_emseg.attribution.area import THRESHOLDS
from lightning_emseg.attribution.fields import Field
from lightning_emseg.attribution.measurement import Found, Setting, Unit, exact_units, measure, shared_units
from lightning_emseg.attribution.method import BoundMethod
from lightning_emseg.attribution.offline.fields_store import FieldsStore, WindowResult
from lightning_emseg.attribution.offline.plan import FIELDS, Part, Plan, plain, read_plan
from lightning_emseg.attribution.table import Row, mean_completeness, relative_error

CURVE = tuple(sorted({*(float(f"{10 ** (step / 10 - 3):.6g}") for step in range(31)), *THRESHOLDS}))
"""Thresholds of the S_k against k curve: ten a decade from 0.001 to 1, and those of the tables."""
# As many as share forward passes anyway; all pixels of a dense grid at once would not fit in memory.
_UNITS_AT_ONCE = 64


@dataclass(frozen=True)
class Study:
    """A finished study, as it is read from its folder.

    Attributes:
        plan: What was computed.
        rows: One a pixel.
        thresholds: K values k.
        differences: Of fast fields to exact ones, on the pixels that were checked.
        windows: Attributes of the windows' groups, in the order of the plan.
    """

    plan: Plan
    rows: tuple[Row, ...]
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
        """Errors of fast fields at some of the thresholds; ``None`` where nothing was checked."""
        places = [self.thresholds.index(k) for k in wanted]
        some = [
            Difference(
                tuple(each.areas[at] for at in places), tuple(each.exact_areas[at] for at in places), each.correlation
            )
            for each in self.differences
        ]
        return summarise_accuracy(some, wanted)


def run(plan: Plan, method: BoundMethod, setting: Setting, folder: Path, device: torch.device) -> None:
    """Compute what is not there yet of a study.

    In the first window the exact fields of its checked pixels show how far fields reach; all others use the same.

    Args:
        plan: The work.
        method: That attributes.
        setting: The windows; its views are those that the plan refers to.
        folder: Of the study; fields go to ``fields.zarr`` in it.
        device: Of the network.
    """
    store = FieldsStore(folder / FIELDS)
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
    plan, store = read_plan(folder), FieldsStore(folder / FIELDS)
    results = [store.read(plan.name(number)) for number in range(len(plan.parts))]
    return Study(
        plan,
        tuple(row for result in results for row in result.rows),
        tuple(plan.settings["thresholds"]),
        tuple(difference for result in results for difference in result.checks.values()),
        tuple(result.attributes for result in results),
    )


def _attribute(
    part: Part,
    name: str,
    is_first: bool,
    method: BoundMethod,
    setting: Setting,
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
        at: compare(
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
    store.write(name, WindowResult(rows, checks, plain(attributes)), fields, shape)


def _timed(
    method: BoundMethod, setting: Setting, units: Sequence[Unit], device: torch.device
) -> tuple[list[tuple[Row, Field]], float]:
    began = time.perf_counter()
    found: list[Found] = []
    for first in range(0, len(units), _UNITS_AT_ONCE):
        found += measure(method, setting, units[first : first + _UNITS_AT_ONCE], device)
    kept = [(each.row, each.field) for each in found if each.field is not None]
    return kept, time.perf_counter() - began
