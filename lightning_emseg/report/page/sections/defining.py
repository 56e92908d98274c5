"""Image definition criteria before and after downsampling."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_emseg.metrics.table import summarise
from lightning_emseg.report.page.definition_file import DefinitionTable
from lightning_emseg.report.page.tables import Cell, Table, mean_cell, number_cell


@dataclass(frozen=True)
class Defining:
    """Of one store.

    Attributes:
        title: Folder, and filter of the smaller levels.
        means: Ratios to the original, a row a level.
        mosaics: Per pixel, a row a mosaic and level.
    """

    title: str
    means: Table
    mosaics: Table


def defining(tables: Sequence[DefinitionTable]) -> list[Defining]:
    """The section."""
    return [_of_store(table) for table in tables]


def _of_store(table: DefinitionTable) -> Defining:
    names = [name.replace("_", " ") for name in table.criteria]
    levels = list(dict.fromkeys(each.level for each in table.levels))
    means = []
    for level in levels:
        found = [each for each in table.levels if each.level == level]
        summaries = [summarise([each.ratio[name] for each in found]) for name in table.criteria]
        means.append([Cell(level), number_cell(len(found)), *(mean_cell(each.mean, each.se) for each in summaries)])
    rows = [
        [
            Cell(each.mosaic),
            Cell(each.level),
            Cell(each.size),
            *(number_cell(each.per_pixel[n]) for n in table.criteria),
        ]
        for each in table.levels
    ]
    return Defining(
        f"{table.name} (filter of smaller levels: {table.filter})",
        Table("Ratio to the original per pixel, mean ± SE over mosaics", ["level", "mosaics", *names], means),
        Table("Definition per pixel", ["mosaic", "level", "px", *names], rows),
    )
