"""Error maps and error objects as label layers of an OME-Zarr image, for viewers."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.store import ArrayWriter, LabelInfo, MosaicStore, layout
from data_modules.store.arrays import create_array, explain_write_failure
from data_modules.store.location import local_folder
from data_modules.store.writer import forget_consolidated
from lightning_emseg.core.pictures import IGNORED
from lightning_emseg.evaluation.error_pictures import COLOURS
from lightning_emseg.evaluation.errors import MEANINGS, ErrorAnalysis, reduce_codes

Colour = tuple[int, int, int]
Labels = NDArray[Any]


@dataclass(frozen=True)
class LabelLayer:
    """A label to be added to a sample.

    Attributes:
        values: Array of the image's shape; ``uint8`` for classes, ``uint32`` for instances.
        info: Meaning of the values.
        halve: Makes the next level of the pyramid: the same values, Y and X halved and rounded up.
        colours: RGB by value; viewers choose where there is none.
    """

    values: Labels
    info: LabelInfo
    halve: Callable[[Labels], Labels]
    colours: Mapping[int, Colour] = field(default_factory=dict)


def make_error_layers(analysis: ErrorAnalysis) -> dict[str, LabelLayer]:
    """Make layers ``errors`` (classes), ``spurious_membranes`` and, in 2D, ``breaks`` (instances, 1 the worst)."""
    classes = {int(outcome): meaning for outcome, meaning in MEANINGS.items()}
    colours = {**{int(outcome): colour for outcome, colour in COLOURS.items()}, IGNORE: IGNORED}
    layers = {
        "errors": LabelLayer(
            analysis.codes, LabelInfo("classes", classes), lambda codes: reduce_codes(codes, 2), colours
        ),
        "spurious_membranes": LabelLayer(analysis.spurious.labels, LabelInfo("instances"), halve_worst),
    }
    if analysis.breaks is not None:
        layers["breaks"] = LabelLayer(analysis.breaks.labels, LabelInfo("instances"), halve_worst)
    return layers


def write_label_layers(
    store: str | os.PathLike[str],
    key: str,
    layers: Mapping[str, LabelLayer],
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Add labels to a sample of a local store, of data or of predictions.

    A layer appears when it is complete. Lower levels of its pyramid keep thin errors, which every second pixel would
    lose. Several processes may add layers to different samples, not to one.

    Args:
        store: Folder of the store.
        key: ``<split>/<sample>``.
        layers: Layers by name.
        provenance: JSON-ready record of what the layers were made from.
        overwrite: Whether layers of these names that this function has written before are replaced; labels from
            elsewhere never are.

    Raises:
        UserError: if there is no such sample, it has another shape or a label of the same name, or the disk is full.
    """
    folder = local_folder(store)
    sample = MosaicStore(folder).sample(key)
    for name, layer in layers.items():
        if layer.values.shape != sample.image.shape:
            raise UserError(
                f"layer {name!r} is {layer.values.shape} px, but sample {key} of {folder} {sample.image.shape} px: "
                "analyse this sample whole"
            )
        earlier = folder / key / "labels" / name
        if earlier.exists() and not (overwrite and _is_ours(earlier)):
            raise UserError(
                f"{earlier} exists{'' if _is_ours(earlier) else ' and holds no error layer'}: "
                f"{'allow it to be overwritten' if _is_ours(earlier) else 'remove it or write into another store'}"
            )
    record = {**(provenance or {}), "layer": _MARK}
    try:
        for name, layer in layers.items():
            _write(folder / key, name, layer, sample.pixel_size_nm, record)
        forget_consolidated(folder)
    except OSError as error:
        raise UserError(explain_write_failure(error, str(folder / key))) from error


_MARK = "error analysis"


def _is_ours(label: Path) -> bool:
    try:
        content = json.loads((label / "zarr.json").read_text())
        return bool(content["attributes"]["emseg"]["provenance"]["layer"] == _MARK)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _write(
    sample: Path, name: str, layer: LabelLayer, pixel_size_nm: tuple[float, ...], provenance: dict[str, Any]
) -> None:
    labels = zarr.open_group(sample / "labels", mode="a", zarr_format=3)
    part = sample / "labels" / f".{name}.partial"
    shutil.rmtree(part, ignore_errors=True)
    group = zarr.open_group(part, mode="a", zarr_format=3)
    values, shapes = layer.values, layout.level_shapes(layer.values.shape)
    for level, shape in enumerate(shapes):
        if level:
            values = layer.halve(values)
        writer = ArrayWriter(create_array(part, str(level), shape, values.dtype, compress=True))
        writer.write(values)
        writer.close()
    counts = np.zeros(256, np.int64)
    for row in layer.values if layer.info.kind == "classes" else ():
        counts += np.bincount(row.ravel(), minlength=256)
    info = replace(layer.info, counts={int(value): int(counts[value]) for value in np.flatnonzero(counts)})
    attributes = layout.group_attributes(name, len(shapes), pixel_size_nm, provenance, info)
    # Pixels of a lower level stand for blocks, as those of an image do.
    attributes["ome"]["multiscales"] = [{**layout.multiscales(name, len(shapes), pixel_size_nm), "type": "worst"}]
    if layer.colours:
        attributes["ome"]["image-label"]["colors"] = [
            {"label-value": value, "rgba": [*colour, 255]} for value, colour in layer.colours.items()
        ]
    group.attrs.update(attributes)
    # As the list of labels names an earlier layer, one must always be there: without it no label could be opened.
    target, replaced = sample / "labels" / name, sample / "labels" / f".{name}.replaced"
    if target.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        target.rename(replaced)
    part.rename(target)
    shutil.rmtree(replaced, ignore_errors=True)
    known: Any = labels.attrs.get("ome", {})
    names = [*(other for other in known.get("labels", []) if other != name), name]
    labels.attrs.update({"ome": {"version": layout.OME_VERSION, **known, "labels": names}})


def halve_worst(ids: Labels) -> Labels:
    """Keep the lowest id of every 2 × 2 pixels along Y and X; 0 only where all of them are.

    >>> halve_worst(np.array([[0, 7, 0], [2, 0, 0]], np.uint32))
    array([[2, 0]], dtype=uint32)
    """
    padding = [(0, 0)] * (ids.ndim - 2) + [(0, side % 2) for side in ids.shape[-2:]]
    one = ids.dtype.type(1)
    # 0 becomes the largest value, so that it loses against every id.
    lowest = np.pad(ids, padding) - one
    lowest = np.minimum(lowest[..., ::2, :], lowest[..., 1::2, :])
    halved: Labels = np.minimum(lowest[..., ::2], lowest[..., 1::2]) + one
    return halved
