"""Plan and results of an offline study on disk, each there as a whole or not at all."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.geometry import Shape
from data_modules.store import MosaicView
from lightning_emseg.attribution.areas import EXTENTS, Difference, Extent, FieldSize
from lightning_emseg.attribution.method import Field
from lightning_emseg.attribution.points import OUTCOMES, ChosenPixels, choose_checked, richest_window
from lightning_emseg.attribution.table import FieldRow
from lightning_emseg.attribution.windows import Place
from lightning_emseg.core.tables import write_json
from lightning_emseg.inference.prediction_store import differences

PLAN_FILE = "plan.json"
FIELDS_STORE = "fields.zarr"


@dataclass(frozen=True)
class PlannedWindow:
    """The work on one window.

    Attributes:
        chosen: Pixels of the window, in px after any resize.
        checked: Positions in its ``pixels`` of those whose exact fields are computed too.
    """

    chosen: ChosenPixels
    checked: tuple[int, ...]


@dataclass(frozen=True)
class StudyPlan:
    """All work of a study.

    Attributes:
        settings: Everything that its numbers depend on; JSON-ready.
        parts: Windows in the order of work. How far fields reach is found out in the first.
    """

    settings: Mapping[str, Any]
    parts: tuple[PlannedWindow, ...]

    def name(self, number: int) -> str:
        """Name a part in the store of fields."""
        return f"window-{number:04d}"


def make_plan(settings: Mapping[str, Any], chosen: Sequence[ChosenPixels], check: int) -> StudyPlan:
    """Plan the work on chosen pixels, the window that shows most outcomes first.

    Args:
        settings: Everything that the numbers depend on.
        chosen: Windows with pixels, at least one.
        check: Pixels whose exact fields are computed too.
    """
    checked, first = choose_checked(chosen, check), richest_window(chosen)
    parts = list(map(PlannedWindow, chosen, checked))
    return StudyPlan(as_json(settings), (parts[first], *parts[:first], *parts[first + 1 :]))


def as_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a record into what JSON gives back."""
    result: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return result


def write_plan(folder: Path, plan: StudyPlan, views: Sequence[MosaicView]) -> None:
    """Write ``plan.json``, whole or not at all."""
    parts = [
        {
            "mosaic": views[part.chosen.place.mosaic].key,
            "number": part.chosen.place.mosaic,
            "origin_px": part.chosen.place.origin,
            "size_px": part.chosen.place.size,
            "pixels": part.chosen.pixels,
            "outcomes": part.chosen.outcomes,
            "checked": part.checked,
        }
        for part in plan.parts
    ]
    write_json(folder / PLAN_FILE, {"settings": plan.settings, "windows": parts})


def read_plan(folder: Path) -> StudyPlan:
    """Read ``plan.json``.

    Raises:
        UserError: if it is missing or damaged.
    """
    path = folder / PLAN_FILE
    if not path.is_file():
        raise UserError(f"{folder} holds no study: make one with `emseg attribute … --out {folder}`")
    try:
        content = json.loads(path.read_text())
        parts = [
            PlannedWindow(
                ChosenPixels(
                    Place(part["number"], tuple(part["origin_px"]), tuple(part["size_px"])),
                    tuple(map(tuple, part["pixels"])),
                    tuple(part["outcomes"]),
                ),
                tuple(part["checked"]),
            )
            for part in content["windows"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): begin anew with --overwrite") from None
    return StudyPlan(content["settings"], tuple(parts))


def earlier_plan(folder: Path, settings: Mapping[str, Any], overwrite: bool) -> StudyPlan | None:
    """Find the plan of an earlier study with the same settings; ``None`` where work begins anew.

    Args:
        folder: Folder of the study.
        settings: Settings of this study.
        overwrite: Whether an earlier one with other settings is given up.

    Raises:
        UserError: if there is one with other settings and results, naming what differs.
    """
    if not (folder / PLAN_FILE).is_file():
        return None
    try:
        earlier = read_plan(folder)
    except UserError:
        if overwrite:
            return None
        raise
    now = as_json(settings)
    if earlier.settings == now:
        return earlier
    # One that was refused before its first window, as by a method that does not fit the network, has nothing to lose.
    if overwrite or not any((folder / FIELDS_STORE).glob("window-*")):
        return None
    raise UserError(
        f"{folder} holds a study with other settings ({differences(earlier.settings, now)}): choose another --out, "
        "or pass --overwrite to replace it"
    )


_CHUNK_VALUES = 2**20
_NO_OUTCOME = 255


@dataclass(frozen=True)
class WindowResult:
    """What was found in one window.

    Attributes:
        rows: One a pixel, in the order of the plan.
        checks: Difference of the field to the exact one, by position in ``rows``.
        attributes: Attributes of the group; JSON-ready.
    """

    rows: tuple[FieldRow, ...]
    checks: dict[int, Difference]
    attributes: dict[str, Any]


class FieldsStore:
    """Results of a study, a Zarr v3 group a window.

    Arrays of a group, n pixels: ``fields`` float32 ``(n, *box)``, attributions as they are, not normalised, zero where
    a field is zero or taken for it; ``origin`` of that box and ``pixel`` in px of the window ``(n, D)``; ``position``
    of the pixel in its mosaic ``(n, D)``; ``outcome`` uint8, a position in the attribute ``outcomes`` or 255;
    ``output``, ``baseline_output`` and ``completeness_error`` float64; ``areas_px`` int64 ``(n, K)``, pixels of the
    mosaic above each of ``thresholds``, of volumes ``volumes_px``, voxels, and ``areas_xy_px``, columns. Where m pixels
    were checked: ``checked`` (positions), ``exact_areas_px`` (of volumes ``exact_volumes_px``) and ``correlation`` with
    the exact field.

    Args:
        path: Folder of the store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self) -> None:
        """Make the store, or clear what a killed run has left of the window that it was writing."""
        for left in self.path.glob(".*.partial"):
            shutil.rmtree(left)
        if not (self.path / "zarr.json").is_file():
            zarr.open_group(self.path, mode="a", zarr_format=3)

    def has(self, name: str) -> bool:
        """Tell whether a window is finished."""
        return (self.path / name / "zarr.json").is_file()

    def write(self, name: str, result: WindowResult, fields: list[Field], shape: Shape) -> None:
        """Write a window.

        Args:
            name: Name of the group.
            result: All but the fields.
            fields: One a row, in the same order.
            shape: Shape of the window, in px.
        """
        hidden = self.path / f".{name}.partial"
        group = zarr.open_group(hidden, mode="w", zarr_format=3)
        values, origins = _boxed(fields, shape)
        together = min(len(values), max(1, _CHUNK_VALUES // math.prod(values.shape[1:])))
        group.create_array("fields", data=values, chunks=(together, *values.shape[1:]))
        rows = result.rows
        codes = {"": _NO_OUTCOME, **{name: code for code, name in enumerate(OUTCOMES)}}
        arrays: dict[str, NDArray[Any]] = {
            "origin": origins,
            "pixel": np.array([field.pixel for field in fields], np.int64),
            "position": np.array([row.position for row in rows], np.int64),
            "outcome": np.array([codes[row.outcome] for row in rows], np.uint8),
            "output": np.array([row.output for row in rows]),
            "baseline_output": np.array([row.baseline_output for row in rows]),
            "completeness_error": np.array([row.completeness_error for row in rows]),
        }
        first = rows[0]
        for at, size in enumerate(first.sizes):
            arrays[_counts(size.extent)] = np.array([row.sizes[at].counts for row in rows], np.int64)
        if result.checks:
            arrays["checked"] = np.array(list(result.checks), np.int64)
            arrays[f"exact_{_counts(first.sizes[0].extent)}"] = np.array(
                [each.exact_areas for each in result.checks.values()], np.int64
            )
            arrays["correlation"] = np.array([each.correlation for each in result.checks.values()])
        for key, array in arrays.items():
            group.create_array(key, data=array)
        group.attrs.update(
            {
                **result.attributes,
                "mosaic": first.mosaic,
                "window_origin_px": list(first.window),
                **{size.extent.place_column: size.place_nm for size in first.sizes},
                **{f"pixels{size.extent.suffix}_inside": size.window for size in first.sizes},
                "outcomes": list(OUTCOMES),
            }
        )
        hidden.rename(self.path / name)

    def read(self, name: str) -> WindowResult:
        """Read all of a window but its fields.

        Raises:
            UserError: if it is not there or damaged, or of a version that counted something else.
        """
        group = self._group(name)
        attributes: dict[str, Any] = dict(group.attrs)
        columns = {key: np.asarray(array[:]).tolist() for key, array in group.arrays() if key != "fields"}
        extents = EXTENTS[len(columns["position"][0])]
        if missing := [_counts(extent) for extent in extents if _counts(extent) not in columns]:
            raise UserError(f"{self.path / name} has no {missing[0]}: an earlier version made it; repeat the study")
        rows = []
        for at, (position, code) in enumerate(zip(columns["position"], columns["outcome"], strict=True)):
            sizes = tuple(
                FieldSize(
                    extent,
                    tuple(columns[_counts(extent)][at]),
                    attributes[extent.place_column],
                    attributes[f"pixels{extent.suffix}_inside"],
                )
                for extent in extents
            )
            rows.append(
                FieldRow(
                    attributes["mosaic"],
                    tuple(position),
                    tuple(attributes["window_origin_px"]),
                    "" if code == _NO_OUTCOME else OUTCOMES[code],
                    columns["output"][at],
                    columns["baseline_output"][at],
                    columns["completeness_error"][at],
                    sizes,
                )
            )
        checks = {}
        for number, at in enumerate(columns.get("checked", ())):
            exact = tuple(columns[f"exact_{_counts(extents[0])}"][number])
            checks[at] = Difference(rows[at].sizes[0].counts, exact, columns["correlation"][number])
        return WindowResult(tuple(rows), checks, attributes)

    def read_field(self, name: str, number: int) -> Field:
        """Read the field of one pixel of a window.

        Raises:
            UserError: if it is not there or damaged.
        """
        self._group(name)
        pixel, origin, output, before, values = (
            np.asarray(zarr.open_array(self.path / name / key, mode="r")[number])
            for key in ("pixel", "origin", "output", "baseline_output", "fields")
        )
        return Field(tuple(pixel.tolist()), tuple(origin.tolist()), values, float(output), float(before))

    def _group(self, name: str) -> zarr.Group:
        if not self.has(name):
            raise UserError(f"{self.path / name} is missing: the study is not finished; run the same command again")
        return zarr.open_group(self.path / name, mode="r")


def _counts(extent: Extent) -> str:
    return f"{extent.quantity}s{extent.suffix}_px"


def _boxed(fields: list[Field], shape: Shape) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Put fields in boxes of one size, moved inwards where they would reach past the window; with their origins."""
    box = tuple(max(field.values.shape[axis] for field in fields) for axis in range(len(shape)))
    values = np.zeros((len(fields), *box), np.float32)
    origins = np.zeros((len(fields), len(shape)), np.int64)
    for number, field in enumerate(fields):
        origin = [min(first, side - extent) for first, side, extent in zip(field.origin, shape, box, strict=True)]
        origins[number] = origin
        inner = tuple(
            slice(first - start, first - start + extent)
            for first, start, extent in zip(field.origin, origin, field.values.shape, strict=True)
        )
        values[number][inner] = field.values
    return values, origins
