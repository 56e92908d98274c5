"""``emseg areas``: attribution studies side by side."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_modules.errors import UserError
from lightning_emseg.attribution.areas import THRESHOLDS, Extent
from lightning_emseg.attribution.study import REPORT, Study, nm_text, pixel_sizes, read_study, write_figures
from lightning_emseg.attribution.table import MeanSize, Record, format_mean, summarise, summary_records
from lightning_emseg.core.tables import MeanSE, align, write_csv

_COMPARABLE = ("label", "sampling", "step", "overlap", "resize", "seed")


def areas(studies: list[Path], out: Path, names: list[str] | None = None) -> str:
    """Compare S_k of finished studies, of two networks or two stores, each at its own pixel size.

    Of volumes S_k is a volume, and beside it stands what it covers in xy.

    Ratios are to the first study, of means, with a standard error by the delta method for independent samples:
    ``r · √((SE₁/S₁)² + (SE₂/S₂)²)``. Settings that differ and change S_k are listed above the table.

    Args:
        studies: Folders of `emseg attribute`.
        out: Folder for areas.csv and areas.png, of volumes areas_xy.png too.
        names: One a study, for table and legend; the folders' names by default.

    Raises:
        UserError: if a study is not finished, some are of images and others of volumes, or names are not one a study
            and all different.
    """
    labels = [folder.name for folder in studies] if names is None else names
    if len(labels) != len(studies) or len(set(labels)) < len(labels):
        raise UserError(f"--names has to give {len(studies)} different names for {len(studies)} studies, got {labels}")
    found = {label: read_study(folder) for label, folder in zip(labels, studies, strict=True)}
    for folder in studies:
        if not (folder / REPORT).is_file():
            raise UserError(f"the study in {folder} is not finished: run its `emseg attribute` again")
    if len({len(study.rows[0].position) for study in found.values()}) > 1:
        raise UserError("some of the studies are of images, others of volumes: areas and volumes cannot be compared")
    (thresholds, *others) = {study.thresholds for study in found.values()}
    if others:
        raise UserError("the studies were made with different versions and have other thresholds: make them again")
    out.mkdir(parents=True, exist_ok=True)
    figures = write_figures(out, "areas", thresholds, [(name, study.rows) for name, study in found.items()])
    extents = [size.extent for size in found[labels[0]].rows[0].sizes]
    records = [record for name, study in found.items() for record in _records(name, study, found[labels[0]])]
    write_csv(out / "areas.csv", records)
    lines = [*_warnings(found), _table(records, extents), ", ".join(map(str, [out / "areas.csv", *figures]))]
    return "\n".join(lines)


def _records(name: str, study: Study, first: Study) -> Iterator[Record]:
    base = {(each.outcome, each.threshold): each for each in summarise(first.rows, first.thresholds, THRESHOLDS)}
    method, settings = study.plan.settings["method"], study.plan.settings
    summaries = summarise(study.rows, study.thresholds, THRESHOLDS)
    for each, record in zip(summaries, summary_records(summaries), strict=True):
        to = base.get((each.outcome, each.threshold))
        ratios: dict[str, float | None] = {}
        for at, size in enumerate(each.sizes):
            ratio, error = _ratio(size, None if to is None else to.sizes[at])
            ratios[f"ratio{size.extent.suffix}"] = ratio
            ratios[f"ratio{size.extent.suffix}_se"] = None if study is first else error
        yield {
            "study": name,
            **record,
            **ratios,
            "nm_per_px": pixel_sizes(study, "pixel_size_nm"),
            "mosaic_nm_per_px": pixel_sizes(study, "mosaic_pixel_size_nm"),
            "window_px": " × ".join(map(str, settings["window"])),
            "window_nm": _window_nm(study),
            "method": method["method"],
            "baseline": method.get("baseline"),
            "steps": method.get("steps"),
        }


def _ratio(mine: MeanSize, base: MeanSize | None) -> tuple[float | None, float | None]:
    if base is None or base.nm.mean == 0:
        return None, None
    ratio = mine.nm.mean / base.nm.mean
    if mine.nm.se is None or base.nm.se is None or ratio == 0:
        return ratio, None
    return ratio, ratio * math.hypot(mine.nm.se / mine.nm.mean, base.nm.se / base.nm.mean)


def _window_nm(study: Study) -> str:
    settings = study.plan.settings
    sizes = dict.fromkeys(
        nm_text([side * nm for side, nm in zip(settings["window"], sample["pixel_size_nm"], strict=True)])
        for sample in settings["samples"].values()
    )
    return ", ".join(sizes)


def _warnings(studies: Mapping[str, Study]) -> Iterator[str]:
    """Name the settings that differ and change S_k whatever the network and the images are."""
    records: dict[str, dict[str, Any]] = {}
    for name, study in studies.items():
        settings = study.plan.settings
        method = {f"method.{key}": value for key, value in settings["method"].items() if key != "receptive_radius_px"}
        common = {key: settings[key] for key in _COMPARABLE}
        records[name] = {**method, **common, "window in nm": _window_nm(study)}
    for key in dict.fromkeys(key for record in records.values() for key in record):
        values = {name: record.get(key) for name, record in records.items()}
        if any(value != next(iter(values.values())) for value in values.values()):
            told = ", ".join(f"{value} in {name}" for name, value in values.items())
            yield f"not comparable as it stands: {key} is {told}"


def _table(records: Sequence[Record], extents: Sequence[Extent]) -> str:
    header = ["study", "outcome", "k", "pixels"]
    forms: dict[str, str] = {}
    for extent in extents:
        header += [f"{extent.title} in {extent.sign}", extent.share, f"ratio{extent.suffix}"]
        forms |= {extent.column: ",.0f", f"share{extent.suffix}": ".2%", f"ratio{extent.suffix}": ".3f"}
    rows = [[*header, "nm/px", "window nm", "baseline", "steps"]]
    for record in records:
        nm = str(record["nm_per_px"])
        if record["mosaic_nm_per_px"] != record["nm_per_px"]:
            nm += f" (mosaic {record['mosaic_nm_per_px']})"
        means: list[tuple[Any, Any, str]] = [(record[name], record[f"{name}_se"], form) for name, form in forms.items()]
        rows.append(
            [
                *(str(record[key]) for key in ("study", "outcome", "k", "pixels")),
                *("–" if mean is None else format_mean(MeanSE(mean, se, 0), form) for mean, se, form in means),
                nm,
                *(str(record[key]) for key in ("window_nm", "baseline", "steps")),
            ]
        )
    return align(rows)
