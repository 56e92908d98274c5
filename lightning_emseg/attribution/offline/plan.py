"""What an offline study is going to compute, fixed before it begins, so that it can be continued."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_modules.errors import UserError
from data_modules.store import MosaicView
from lightning_emseg.attribution.chosen import Chosen, checked_pixels, richest
from lightning_emseg.attribution.windows import Place
from lightning_emseg.inference.prediction_store import differences

FILE = "plan.json"
FIELDS = "fields.zarr"


@dataclass(frozen=True)
class Part:
    """The work on one window.

    Attributes:
        chosen: Pixels of the window, in px after any resize.
        checked: Positions in its ``pixels`` of those whose exact fields are computed too.
    """

    chosen: Chosen
    checked: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """All work of a study.

    Attributes:
        settings: Everything that its numbers depend on; JSON-ready.
        parts: Windows in the order of work. How far fields reach is found out in the first.
    """

    settings: Mapping[str, Any]
    parts: tuple[Part, ...]

    def name(self, number: int) -> str:
        """Of a part in the store of fields."""
        return f"window-{number:04d}"


def plan_of(settings: Mapping[str, Any], chosen: Sequence[Chosen], check: int) -> Plan:
    """Plan the work on chosen pixels, the window that shows most outcomes first.

    Args:
        settings: Everything that the numbers depend on.
        chosen: Windows with pixels, at least one.
        check: Pixels whose exact fields are computed too.
    """
    checked, first = checked_pixels(chosen, check), richest(chosen)
    parts = list(map(Part, chosen, checked))
    return Plan(plain(settings), (parts[first], *parts[:first], *parts[first + 1 :]))


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as JSON gives it back."""
    result: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return result


def write_plan(folder: Path, plan: Plan, views: Sequence[MosaicView]) -> None:
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
    write_whole(folder / FILE, json.dumps({"settings": plan.settings, "windows": parts}, indent=1))


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all."""
    hidden = path.with_name(f".{path.name}.partial")
    hidden.write_text(text + "\n")
    hidden.replace(path)


def read_plan(folder: Path) -> Plan:
    """Read ``plan.json``.

    Raises:
        UserError: if it is missing or damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{folder} holds no study: make one with `emseg attribute … --out {folder}`")
    try:
        content = json.loads(path.read_text())
        parts = [
            Part(
                Chosen(
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
    return Plan(content["settings"], tuple(parts))


def earlier_plan(folder: Path, settings: Mapping[str, Any], overwrite: bool) -> Plan | None:
    """The plan of an earlier study with the same settings, or ``None`` where work begins anew.

    Args:
        folder: Of the study.
        settings: Of this one.
        overwrite: Whether an earlier one with other settings is given up.

    Raises:
        UserError: if there is one with other settings and results, naming what differs.
    """
    if not (folder / FILE).is_file():
        return None
    try:
        earlier = read_plan(folder)
    except UserError:
        if overwrite:
            return None
        raise
    now = plain(settings)
    if earlier.settings == now:
        return earlier
    # One that was refused before its first window, as by a method that does not fit the network, has nothing to lose.
    if overwrite or not any((folder / FIELDS).glob("window-*")):
        return None
    raise UserError(
        f"{folder} holds a study with other settings ({differences(earlier.settings, now)}): choose another --out, "
        "or pass --overwrite to replace it"
    )
