"""One study of attribution fields: pixels are chosen, shared out as units of work, measured, and put together again."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import torch

from data_modules.geometry import Shape
from data_modules.store import MosaicView
from lightning_emseg.attribution.areas import Accuracy, compare_fields, measure_sizes, summarise_accuracy
from lightning_emseg.attribution.method import BoundMethod, Field
from lightning_emseg.attribution.points import ChosenPixels
from lightning_emseg.attribution.table import FieldRow, normalise_inside
from lightning_emseg.attribution.windows import Baseline, Place, Window, baseline_window, hash_name, read_window


@dataclass(frozen=True)
class StudySetting:
    """What all windows of a study have in common.

    Attributes:
        views: The mosaics that places refer to.
        baseline: Baseline of all windows.
        thresholds: Thresholds k of the areas.
        seed: Random seed for noise.
        resize: Size in px that windows are brought to, or ``None``.
    """

    views: Sequence[MosaicView]
    baseline: Baseline
    thresholds: tuple[float, ...]
    seed: int
    resize: Shape | None = None

    def read(self, place: Place) -> Window:
        """Read a window of one of the mosaics."""
        return read_window(self.views[place.mosaic], place, self.resize)


@dataclass(frozen=True)
class WorkUnit:
    """The smallest piece of work: pixels of one window that share a pass.

    Attributes:
        place: The window.
        pixels: Positions in px of the window.
        outcomes: One a pixel; empty names where there is no truth.
        exact: Whether the exact field of the pixel is wanted, to measure the error of the fast one.
        kept: Whether the field of each pixel is wanted, and not only what was measured of it.
    """

    place: Place
    pixels: tuple[Shape, ...]
    outcomes: tuple[str, ...]
    exact: bool
    kept: tuple[bool, ...]


@dataclass(frozen=True)
class MeasuredPixel:
    """What was measured of one pixel.

    Attributes:
        place: The window.
        shape: Shape of the window, in px after any resize.
        row: Row of the table.
        exact: Whether it is of the exact field.
        field: Field, where it was to be kept.
    """

    place: Place
    shape: Shape
    row: FieldRow
    exact: bool
    field: Field | None


def exact_units(chosen: ChosenPixels, checked: Sequence[int]) -> list[WorkUnit]:
    """Make one unit of each pixel whose exact field is wanted.

    Args:
        chosen: Pixels of a window.
        checked: Positions in its ``pixels``.
    """
    return [WorkUnit(chosen.place, (chosen.pixels[at],), (chosen.outcomes[at],), True, (True,)) for at in checked]


def shared_units(
    method: BoundMethod, chosen: ChosenPixels, kept: Collection[int], resize: Shape | None = None
) -> list[WorkUnit]:
    """Make one unit of each group of pixels that share a pass.

    Units are made before they are shared out, so that they do not depend on the number of processes.

    Args:
        method: Method that attributes.
        chosen: Pixels of a window.
        kept: Positions in ``chosen.pixels`` of those whose fields are wanted.
        resize: Size in px that the window is brought to, or ``None``.
    """
    shape = (1, *(resize or chosen.place.size))
    return [
        WorkUnit(
            chosen.place,
            tuple(chosen.pixels[at] for at in group),
            tuple(chosen.outcomes[at] for at in group),
            False,
            tuple(at in kept for at in group),
        )
        for group in method.groups(chosen.pixels, shape)
    ]


def take_share(units: Sequence[WorkUnit], rank: int, world: int) -> list[WorkUnit]:
    """Take the units of one of several processes: neighbours, as they share windows, and as many for each."""
    return list(units[len(units) * rank // world : len(units) * (rank + 1) // world])


def measure_units(
    method: BoundMethod,
    setting: StudySetting,
    units: Sequence[WorkUnit],
    device: torch.device,
) -> Iterator[MeasuredPixel]:
    """Compute the fields of some units, window by window.

    Args:
        method: Method that attributes.
        setting: Settings of the study.
        units: Those of a window behind each other, exact ones apart from the others.
        device: Device of the network.
    """
    for place, some in groupby(units, key=lambda unit: unit.place):
        window = setting.read(place)
        image = torch.from_numpy(window.image).to(device)
        key = (setting.seed, hash_name(window.mosaic))
        before = baseline_window(setting.baseline, window.image, key, place.origin, window.pixel_size_nm)
        baseline = torch.from_numpy(before).to(device)
        for exact, chosen in groupby(some, key=lambda unit: unit.exact):
            group = list(chosen)
            pixels = [pixel for unit in group for pixel in unit.pixels]
            if exact:
                # A method that approximates nothing has no other fields to compare with.
                fields = method.exact_fields(image, baseline, pixels)
                if fields is None:
                    continue
            else:
                sizes = np.cumsum([0, *(len(unit.pixels) for unit in group)]).tolist()
                together = [list(range(first, last)) for first, last in pairwise(sizes)]
                fields = method.fields(image, baseline, pixels, together)
            named = zip(
                fields,
                (outcome for unit in group for outcome in unit.outcomes),
                (kept for unit in group for kept in unit.kept),
                strict=True,
            )
            for field, outcome, kept in named:
                position = tuple(
                    int(start + (at + 0.5) * scale)
                    for start, at, scale in zip(place.origin, field.pixel, window.scale, strict=True)
                )
                inside = normalise_inside(field, window.inside)
                sizes = measure_sizes(inside, window.shape_inside, window.pixel_size_nm, setting.thresholds)
                answers = field.output, field.baseline_output, field.completeness_error
                row = FieldRow(window.mosaic, position, place.origin, outcome, *answers, sizes)
                yield MeasuredPixel(place, window.truth.shape, row, exact, field if kept else None)


def measure_accuracy(found: Sequence[MeasuredPixel], thresholds: Sequence[float]) -> Accuracy | None:
    """Measure the error of fast fields on the pixels whose exact fields were computed too; ``None`` without any.

    Args:
        found: Measured pixels of all units.
        thresholds: Thresholds of which errors are given.
    """
    fast = {(each.place, each.field.pixel): each.field for each in found if each.field is not None and not each.exact}
    differences = [
        compare_fields(fast[each.place, each.field.pixel].whole(each.shape), each.field.whole(each.shape), thresholds)
        for each in found
        if each.exact and each.field is not None
    ]
    return summarise_accuracy(differences, thresholds)
