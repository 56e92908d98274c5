"""What each step of the curation has left of a set."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.tile_set import SourceTiles, TileSet, read_kept
from lightning_emseg.curation.filtering import deduplicated


@dataclass(frozen=True)
class Stage:
    """Tiles after a step.

    Attributes:
        name: ``tiled``, ``deduplicated`` or ``filtered``.
        kept: ``bool (N,)`` a source.
        settings: Of the step, as it recorded them.
    """

    name: str
    kept: Sequence[NDArray[np.bool_]]
    settings: Mapping[str, Any]

    @property
    def counts(self) -> list[int]:
        """Tiles of each source."""
        return [int(each.sum()) for each in self.kept]


def stages_of(folder: TileSet, sources: Sequence[SourceTiles]) -> list[Stage]:
    """All tiles, and those left by each step that was taken; the last one is what the curation ends with.

    Raises:
        UserError: if the set has changed since a step, or one was taken anew after the next.
    """
    stages = [Stage("tiled", [np.ones(len(source), np.bool_) for source in sources], {})]
    for step, name in (("dedup", "deduplicated"), ("filter", "filtered")):
        if not folder.tables(step):
            continue
        kept = read_kept(sources, folder.tables(step))
        settings = _settings(folder, step)
        if step == "filter" and settings.get("dedup") != deduplicated(folder):
            raise UserError(
                f"{folder.path / 'dedup.csv'} has changed since filter.csv was made: run `emseg curate filter` again"
            )
        left = [before & now for before, now in zip(stages[-1].kept, kept, strict=True)]
        stages.append(Stage(name, left, settings))
    return stages


def _settings(folder: TileSet, step: str) -> dict[str, Any]:
    path = folder.path / f"{step}.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): run `emseg curate {step}` again") from error
    # The card counts sources itself.
    return {key: value for key, value in content.items() if key not in ("sources", "nothing_left", "little_left")}
