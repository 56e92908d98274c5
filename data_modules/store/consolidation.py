"""The list of all nodes in the root of a store, without which a store cannot be read over HTTP."""

import json
import os
import warnings
from pathlib import Path

import zarr

from data_modules.store.location import local_folder
from data_modules.store.samples import MosaicStore


def consolidate(store: str | os.PathLike[str]) -> int:
    """Write zarr's consolidated metadata into the ``zarr.json`` of a local store.

    It holds for the samples of this moment; local reading never uses it.

    Args:
        store: Folder of the store.

    Returns:
        Number of samples.

    Raises:
        UserError: if there is no store, if it is a URL, or if a sample cannot be opened.
    """
    folder = local_folder(store)
    samples = MosaicStore(folder).samples()
    with warnings.catch_warnings():
        # That it is not part of the specification yet, and that hidden folders are no zarr nodes.
        warnings.simplefilter("ignore", UserWarning)
        zarr.consolidate_metadata(str(folder))
    return len(samples)


def forget_consolidated(store: Path) -> None:
    """Remove the list, which is out of date as soon as a sample is added.

    Args:
        store: Folder of the store.
    """
    path = store / "zarr.json"
    content = json.loads(path.read_bytes())
    if content.pop("consolidated_metadata", None) is None:
        return
    part = path.with_name(f".zarr.json.{os.getpid()}.partial")
    part.write_text(json.dumps(content, indent=2))
    part.replace(path)
