"""Telling whether an array is still the one that was opened."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

_DECIDES = ("shape", "data_type", "chunk_grid", "chunk_key_encoding", "codecs", "fill_value")


def is_url(path: str) -> bool:
    """Whether ``path`` is an address and not a folder."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", path) is not None


def local_stamp(folder: str) -> str:
    """Inode and time of change of the ``zarr.json`` of a local array: another one for whatever replaces it.

    Raises:
        OSError: if it is not there.
    """
    status = os.stat(f"{folder}/zarr.json")  # noqa: PTH116 - called at every read, and a Path costs more than the call
    return f"{status.st_ino}:{status.st_mtime_ns}"


def remote_stamp(metadata: Mapping[str, Any]) -> str:
    """Of a remote array: a hash of what its ``zarr.json`` says of its layout."""
    content = json.dumps([metadata.get(key) for key in _DECIDES], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
