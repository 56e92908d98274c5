"""One study of attribution fields: pixels are chosen, shared out as units of work, measured, and put together again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from data_modules.grid import Shape
from data_modules.store import MosaicView
from lightning_emseg.attribution.accuracy import Accuracy, compare
from lightning_emseg.attribution.accuracy import summarise as summarise_accuracy
from lightning_emseg.attribution.baselines import Baseline
from lightning_emseg.attribution.fields import Field
from lightning_emseg.attribution.method import BoundMethod
from lightning_emseg.attribution.table import Row, areas_of
from lightning_emseg.attribution.windows import Place, Window, baseline_of, read_window


@dataclass(frozen=True)
class Setting:
    """What all windows of a study have in common.

    Attributes:
        views: The mosaics that places refer to.
        baseline: What images are compared with.
        thresholds: Of which areas are counted.
        seed: Of noise.
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
class Unit:
    """The smallest piece of work: pixels of one window that share a pass.

    Attributes:
        place: The window.
        pixels: In px of the window.
        outcomes: One a pixel; empty names where there is no truth.
        exact: Whether the exact field of the pixel is wanted, to measure the error of the fast one.
        kept: For each pixel, whether its field is wanted and not only what was measured of it.
    """

    place: Place
    pixels: tuple[Shape, ...]
    outcomes: tuple[str, ...]
    exact: bool
    kept: tuple[bool, ...]


@dataclass(frozen=True)
class Found:
    """What was measured of one pixel.

    Attributes:
        place: The window.
        row: For the table.
        exact: Whether it is of the exact field.
        field: Where it was to be kept.
    """

    place: Place
    row: Row
    exact: bool
    field: Field | None


def units_of(
    method: BoundMethod,
    place: Place,
    pixels: Sequence[Shape],
    outcomes: Sequence[str],
    checked: Sequence[int],
    kept: Sequence[int],
) -> list[Unit]:
    """Divide the work on one window; which pixels share a pass does not depend on who does it.

    Args:
        method: That attributes.
        place: The window.
        pixels: In px of the window.
        outcomes: One a pixel.
        checked: Positions in ``pixels`` of those whose exact field is computed too.
        kept: Positions of those whose fields are wanted.
    """
    wanted = set(checked) | set(kept)
    exact = [Unit(place, (pixels[at],), (outcomes[at],), True, (True,)) for at in checked]
    shared = [
        Unit(
            place,
            tuple(pixels[at] for at in group),
            tuple(outcomes[at] for at in group),
            False,
            tuple(at in wanted for at in group),
        )
        for group in method.groups(pixels)
    ]
    return exact + shared


def share_of(units: Sequence[Unit], rank: int, world: int) -> list[Unit]:
    """The units of one of several processes: neighbours, as they share windows, and as many for each."""
    return list(units[len(units) * rank // world : len(units) * (rank + 1) // world])


def measure(
    method: BoundMethod,
    setting: Setting,
    units: Sequence[Unit],
    device: torch.device,
    known: Mapping[tuple[Place, Shape], Field] | None = None,
) -> Iterator[Found]:
    """Compute the fields of some units, window by window.

    Args:
        method: That attributes.
        setting: Of the study.
        units: In the order of :func:`units_of`.
        device: Of the network.
        known: Exact fields that need not be computed again.
    """
    for place, some in groupby(units, key=lambda unit: unit.place):
        window = setting.read(place)
        image = torch.from_numpy(window.image).to(device)
        baseline = torch.from_numpy(baseline_of(window, setting.baseline, place, setting.seed)).to(device)
        for exact, chosen in groupby(some, key=lambda unit: unit.exact):
            group = list(chosen)
            pixels = [pixel for unit in group for pixel in unit.pixels]
            if exact:
                fields = _exact(method, image, baseline, [(place, pixel) for pixel in pixels], known or {})
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
                yield Found(place, row_of(setting, place, window, field, outcome), exact, field if kept else None)


def _exact(
    method: BoundMethod,
    image: torch.Tensor,
    baseline: torch.Tensor,
    wanted: Sequence[tuple[Place, Shape]],
    known: Mapping[tuple[Place, Shape], Field],
) -> list[Field]:
    unknown = [pixel for place, pixel in wanted if (place, pixel) not in known]
    fresh = iter(method.exact_fields(image, baseline, unknown) or () if unknown else ())
    return [known[key] if key in known else next(fresh) for key in wanted]


def row_of(setting: Setting, place: Place, window: Window, field: Field, outcome: str) -> Row:
    """What is measured of a field."""
    position = tuple(
        int(start + (at + 0.5) * scale)
        for start, at, scale in zip(place.origin, field.pixel, window.scale, strict=True)
    )
    return Row(
        setting.views[place.mosaic].key,
        position,
        place.origin,
        outcome,
        field.output,
        field.baseline_output,
        field.completeness_error,
        areas_of(field, window.inside, setting.thresholds),
        float(np.prod(window.pixel_size_nm)),
        window.pixels_inside,
    )


def accuracy_of(found: Sequence[Found], shapes: Mapping[Place, Shape], thresholds: Sequence[float]) -> Accuracy | None:
    """Errors of fast fields on the pixels whose exact fields were computed too.

    Args:
        found: Of all units.
        shapes: Of the windows, in px.
        thresholds: Of which errors are given.
    """
    fast = {(each.place, each.field.pixel): each.field for each in found if each.field is not None and not each.exact}
    pairs = [
        (fast[each.place, each.field.pixel], each.field, shapes[each.place])
        for each in found
        if each.exact and each.field is not None
    ]
    differences = [compare(mine.whole(shape), exact.whole(shape), thresholds) for mine, exact, shape in pairs]
    return summarise_accuracy(differences, thresholds)


def foreground_probability(network: nn.Module, window: Window, device: torch.device) -> NDArray[np.uint8]:
    """Quantised probability ``uint8 (*S)`` of a window, 255 for certain foreground."""
    image = torch.from_numpy(window.image).to(device)[None]
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        probability = torch.sigmoid(network(image)[0, 0].float())
    found: NDArray[np.uint8] = (probability * 255).round().to(torch.uint8).cpu().numpy()
    return found
