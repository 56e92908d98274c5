"""Areas of attribution fields, from ``attribution/`` of a run and from folders of ``emseg attribute``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_emseg.attribution.extent import AREA, VOLUME, Extent
from lightning_emseg.report.page.reading import attempt, json_object, number, records

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Area:
    """Mean area, in volumes mean volume, S_k of the fields of one kind of pixels.

    Attributes:
        outcome: ``TP``, ``FP``, ``FN``, ``TN`` or ``all``.
        threshold: k.
        pixels: Number of pixels.
        extent: What S_k is.
        size: Mean S_k in nm², in volumes nm³.
        se: Its standard error, NaN where it has none.
        share: Mean share of the window.
        completeness: Mean error of completeness, relative to F(x) − F(x').
        epoch: During a fit; NaN in a study.
    """

    outcome: str
    threshold: float
    pixels: int
    extent: Extent
    size: float
    se: float
    share: float
    completeness: float
    epoch: float = float("nan")


@dataclass(frozen=True)
class AreaStudy:
    """Attribution of one network.

    Attributes:
        name: Of the study's folder, or of the run and verb.
        areas: At the thresholds of the table.
        curve: At many thresholds; none from a callback.
        method: What was computed, by name of setting.
        panels: Picture files.
    """

    name: str
    areas: tuple[Area, ...]
    curve: tuple[Area, ...]
    method: Mapping[str, Any]
    panels: tuple[Path, ...]

    @property
    def extent(self) -> Extent:
        """What S_k is of all of its fields."""
        return next((area.extent for area in (*self.areas, *self.curve)), AREA)

    @property
    def latest(self) -> tuple[Area, ...]:
        """Areas of the last epoch, where there are several."""
        epochs = [area.epoch for area in self.areas if area.epoch == area.epoch]
        return tuple(area for area in self.areas if not epochs or area.epoch == max(epochs))


def read_study(folder: Path) -> AreaStudy:
    """Read a finished study of ``emseg attribute``.

    Raises:
        ValueError: if the file or a number is not as expected.
        KeyError: if a part is missing.
    """
    found = json_object(folder / SUMMARY)
    panels = tuple(path for path in (folder / "panels.png",) if path.is_file())
    return AreaStudy(
        name=folder.resolve().name,
        areas=tuple(map(_area_of_study, found["summary"])),
        curve=tuple(map(_area_of_study, found["curve"])),
        method=_settings(found.get("method", {})),
        panels=panels,
    )


def read_run_attribution(folder: Path, notes: list[str]) -> tuple[AreaStudy, ...]:
    """What the attribution callback left in a run folder, one study a verb.

    Args:
        folder: Of the run.
        notes: Gets a sentence for each file that cannot be read.
    """
    studies = []
    for path in sorted((folder / "attribution").glob("summary-*.csv")):
        verb = path.stem.removeprefix("summary-")
        areas = attempt(lambda file: tuple(map(_area_of_callback, records(file))), path, notes)
        settings = attempt(json_object, path.with_name(f"{verb}.json"), notes) or {}
        pattern = "attribution-epoch-*.png" if verb == "fit" else f"attribution-{verb}*.png"
        # Of a fit the last epoch's alone, as there is one an epoch.
        panels = sorted((folder / "figures").glob(pattern))[-1 if verb == "fit" else 0 :]
        if areas:
            studies.append(AreaStudy(verb, areas, (), _settings(settings), tuple(panels)))
    return tuple(studies)


def _area_of_study(record: Mapping[str, Any]) -> Area:
    extent = VOLUME if f"{VOLUME.quantity}_{VOLUME.unit}" in record else AREA
    return Area(
        str(record["outcome"]),
        number(record["threshold"]),
        int(record["pixels"]),
        extent,
        number(record[f"{extent.quantity}_{extent.unit}"]),
        number(record.get(f"{extent.quantity}_se")),
        number(record["share"]),
        number(record["completeness"]),
    )


def _area_of_callback(record: Mapping[str, str]) -> Area:
    extent = VOLUME if VOLUME.column in record else AREA
    return Area(
        record["outcome"],
        number(record["k"]),
        int(record["pixels"]),
        extent,
        number(record[extent.column]),
        number(record.get(f"{extent.column}_se")),
        number(record["share"]),
        number(record.get("relative_completeness_error")),
        number(record.get("epoch")),
    )


def _settings(found: Mapping[str, Any]) -> dict[str, Any]:
    """Those that fit on a line."""
    return {key: value for key, value in found.items() if not isinstance(value, dict | list)}
