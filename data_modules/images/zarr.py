"""Zarr arrays and OME-Zarr images of versions 2 and 3, in folders and behind URLs."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_modules.images.image import Image, Pixels, RefusedError, Region, in_nm, last_axes_are_colours
from data_modules.store import tensors
from data_modules.store.layout import ReadError, is_url
from data_modules.store.reader import ArrayRef, read
from data_modules.store.tensors import ANSWER_S, kvstore_spec

Metadata = Mapping[str, Any]
NODE_FILES = ("zarr.json", ".zgroup", ".zarray")
"""By which a folder is known as a node of Zarr."""


def image_of(path: str) -> Metadata | None:
    """The OME-Zarr image at a folder or URL, as its ``multiscales`` entry; ``None`` where there is none."""
    content = _content(path, "zarr.json")
    attributes = (content or {}).get("attributes", {}) if content is not None else _content(path, ".zattrs") or {}
    scales = attributes.get("ome", attributes).get("multiscales")
    return scales[0] if scales else None


def is_array(path: str) -> bool:
    """Whether a folder or URL is an array of Zarr."""
    return (_content(path, "zarr.json") or {}).get("node_type") == "array" or _content(path, ".zarray") is not None


@contextmanager
def open_zarr(path: str) -> Iterator[Image]:
    """Open an array, or the full resolution of an OME-Zarr image with its pixel size.

    Args:
        path: Folder or URL.

    Raises:
        UserError: if there is neither, it has several channels or times, or a URL does not answer.
    """
    image = image_of(path)
    level = path if image is None else f"{path.rstrip('/')}/{image['datasets'][0]['path']}"
    metadata, version_2 = _content(level, "zarr.json"), _content(level, ".zarray")
    described = metadata or version_2
    if described is None or "shape" not in described:
        raise RefusedError(f"{path} is no array of Zarr and no OME-Zarr image, or access is refused: give one of these")
    shape = tuple(int(side) for side in described["shape"])
    leading = _leading(path, shape)
    stack = len(shape) - leading == 3
    sizes = None if image is None else _pixel_size(image, leading)
    if sizes is not None and not (stack and shape[leading] > 1):
        sizes = sizes[-2:]
    dtype = np.dtype(described["data_type"] if "data_type" in described else described["dtype"]).newbyteorder("=")
    read_whole = _reader(level, path, shape, metadata)

    def fetch(region: Region) -> Pixels:
        pixels = read_whole((*[slice(0, 1)] * leading, *region[-(len(shape) - leading) :]))
        return pixels.reshape([part.stop - part.start for part in region]).astype(dtype, copy=False)

    yield Image(
        path,
        "Zarr" if image is None else "OME-Zarr",
        (shape[leading] if stack else 1, shape[-2], shape[-1]),
        dtype,
        fetch,
        sizes,
        depth=_chunk(described)[leading] if stack else 1,
        scattered=True,
    )


def _reader(
    level: str, path: str, shape: tuple[int, ...], metadata: Metadata | None
) -> Callable[[tuple[slice, ...]], Pixels]:
    if metadata is not None:
        complete = bool(metadata.get("attributes", {}).get("emseg", {}).get("every_chunk_written"))
        return partial(read, ArrayRef(level, f"image {path}", shape, metadata["data_type"], complete))
    # Version 2, which TensorStore reads wherever it is.
    import tensorstore as ts

    context = ts.Context({"cache_pool": {"total_bytes_limit": 64_000_000}})
    spec = {"driver": "zarr", "kvstore": kvstore_spec(level.rstrip("/"))}
    array = ts.open(spec, open=True, read=True, context=context).result(timeout=ANSWER_S)
    return lambda region: np.asarray(array[region].read().result())


def _leading(path: str, shape: Sequence[int]) -> int:
    leading = next((axis for axis, side in enumerate(shape) if side > 1), len(shape))
    # An array (1, Y, X) has one section; what comes before these three axes are channels and times.
    leading = min(leading, max(0, len(shape) - 2))
    if len(shape) < 2 or len(shape) - leading > 3 or last_axes_are_colours(tuple(shape[leading:])):
        raise RefusedError(f"{path} is {tuple(shape)}: only (Y, X) and (Z, Y, X) of one channel and time can be tiled")
    return leading


def _chunk(metadata: Metadata) -> Sequence[int]:
    if "chunks" in metadata:
        return [int(side) for side in metadata["chunks"]]
    for codec in metadata["codecs"]:
        if codec["name"] == "sharding_indexed":
            return [int(side) for side in codec["configuration"]["chunk_shape"]]
    return [int(side) for side in metadata["chunk_grid"]["configuration"]["chunk_shape"]]


def _pixel_size(image: Metadata, leading: int) -> tuple[float, ...] | None:
    transformations = [*image["datasets"][0].get("coordinateTransformations", ())]
    transformations += image.get("coordinateTransformations", ())
    scales = [each["scale"] for each in transformations if each.get("type") == "scale"]
    axes = image.get("axes", ())
    if not scales or not all(isinstance(axis, dict) for axis in axes) or len(axes) != len(scales[0]):
        return None
    values = np.prod(scales, axis=0)
    return in_nm([float(value) for value in values[leading:]], [axis.get("unit") for axis in axes[leading:]])


def node_file(path: str, name: str) -> bytes | None:
    """Content of a file of a folder or URL, ``None`` where there is none.

    Raises:
        RefusedError: if the URL does not answer.
    """
    if not is_url(path):
        file = Path(path) / name
        return file.read_bytes() if file.is_file() else None
    try:
        return tensors.get(path.rstrip("/"), name)
    except ReadError as failure:
        # A bucket that may be read and not listed says this of what it does not have.
        if "PERMISSION_DENIED" in str(failure):
            return None
        raise RefusedError(
            f"{path} cannot be reached: check the address, the network and the credentials.\n  cause: {failure}"
        ) from failure


def _content(path: str, name: str) -> dict[str, Any] | None:
    found = node_file(path, name)
    return None if found is None else dict(json.loads(found))
