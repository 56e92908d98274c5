"""Reading through TensorStore: object stores, and layouts of other software. It is imported when it is needed.

Its threads do not survive ``fork``: a process that was forked from one that has used it is told so, and does not hang.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.store.layout import Kind, ReadError, cache_bytes, is_url

Pixels = NDArray[Any]
ANSWER_S = 25.0
"""Longest wait for metadata, in s."""
SLOWEST = 200_000
"""Bytes per s below which a transfer of pixels is given up, after ANSWER_S."""
RETRIES = {"max_retries": 3, "initial_delay": "500ms", "max_delay": "4s"}
"""Repeated requests to a server that fails."""
_CURL = {"CONNECT_TIMEOUT_SECONDS": "6", "LOW_SPEED_TIME_SECONDS": "12", "LOW_SPEED_LIMIT_BYTES": "1000"}
_AWS_CREDENTIALS = (
    "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip
_KINDS: Mapping[str, Kind] = {
    "NOT_FOUND": "missing",
    "DATA_LOSS": "damaged",
    # A damaged compressed chunk may fail in zstd, and a cut one in its length, before its checksum is compared.
    "FAILED_PRECONDITION": "damaged",
    "OUT_OF_RANGE": "damaged",
}
_DECIDES = ("shape", "data_type", "chunk_grid", "chunk_key_encoding", "codecs", "fill_value")
_state = {"used": False, "forked": False}
os.register_at_fork(after_in_child=lambda: _state.update(forked=_state["used"]))


def read_array(path: str, complete: bool, stamp: str, region: Sequence[slice]) -> Pixels:
    """Read a region that lies inside an array.

    Args:
        path: Folder or URL of the array.
        complete: Whether a missing chunk is an error and not the fill value.
        stamp: Stamp of the array when its sample was opened; remote arrays are compared with it once a process.
        region: One slice with start and stop an axis, in px.

    Raises:
        ReadError: if a chunk is missing or damaged, if the array was replaced, or if nothing answers.
        UserError: if this process was forked from one that had used TensorStore.
    """
    array = _call(path, lambda: _open(path, complete, stamp))
    pending = array[tuple(region)].read()
    size = array.dtype.numpy_dtype.itemsize * int(np.prod([part.stop - part.start for part in region]))
    return np.asarray(_call(path, lambda: pending.result(timeout=ANSWER_S + size / SLOWEST)))


def remote_stamp(metadata: Mapping[str, Any]) -> str:
    """Hash what the ``zarr.json`` of a remote array says of its layout."""
    content = json.dumps([metadata.get(key) for key in _DECIDES], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def get(url: str, key: str) -> bytes | None:
    """Fetch one object below ``url``, ``None`` where there is none.

    Raises:
        ReadError: if the server refuses or does not answer.
    """
    answer = _call(f"{url}/{key}", lambda: _kvstore(url).read(key).result(timeout=ANSWER_S))
    return bytes(answer.value) if answer.state == "value" else None


def keys(url: str) -> list[str]:
    """List the keys of all objects below ``url``; no http server has such a list.

    Raises:
        ReadError: if the server refuses or does not answer.
    """
    return [key.decode() for key in _call(url, lambda: _kvstore(url).list().result(timeout=ANSWER_S))]


def _call(where: str, function: Callable[[], Any]) -> Any:
    if _state["forked"]:
        raise UserError(
            f"{where} is read through TensorStore, whose threads do not survive a fork, and this process was forked "
            "from one that had used it: start loader processes with forkserver or spawn, or set --data.num_workers 0"
        )
    _state["used"] = True
    try:
        return function()
    except TimeoutError as error:
        raise ReadError("unreadable", f"{where} did not answer in time") from error
    except ValueError as error:
        # The innermost code is the cause: TensorStore prefixes it with the codes of what it was about to do.
        code = str(error).split(":")[0]
        raise ReadError(_KINDS.get(code, "unreadable"), str(error)) from error


@functools.cache
def _context() -> Any:
    for name, value in _CURL.items():
        os.environ.setdefault(f"TENSORSTORE_CURL_{name}", value)
    import tensorstore as ts

    retries = {f"{driver}_request_retries": RETRIES for driver in ("http", "s3", "gcs")}
    return ts.Context({"cache_pool": {"total_bytes_limit": cache_bytes()}, **retries})


@functools.lru_cache(maxsize=64)
def _kvstore(url: str) -> Any:
    context = _context()
    import tensorstore as ts

    return ts.KvStore.open(kvstore_spec(url), context=context).result(timeout=ANSWER_S)


@functools.lru_cache(maxsize=512)
def _open(path: str, complete: bool, stamp: str) -> Any:
    context = _context()
    import tensorstore as ts

    if is_url(path):
        content = get(path, "zarr.json")
        if content is None:
            raise ReadError("missing", f"{path}/zarr.json is missing")
        if stamp and remote_stamp(json.loads(content)) != stamp:
            raise ReadError("replaced", path)
    spec = {
        "driver": "zarr3",
        "kvstore": kvstore_spec(path),
        "fill_missing_data_reads": not complete,
        "recheck_cached_data": "open" if is_url(path) else True,
    }
    return ts.open(spec, open=True, read=True, context=context).result(timeout=ANSWER_S)


def kvstore_spec(path: str) -> Any:
    """Describe a folder or URL to TensorStore, with the endpoint, region and credentials that ``AWS_*`` name for s3."""
    if not is_url(path):
        return {"driver": "file", "path": f"{path}/"}
    if not path.startswith("s3://"):
        return f"{path}/"
    address = urlsplit(path)
    spec: dict[str, Any] = {"driver": "s3", "bucket": address.netloc, "path": f"{address.path.lstrip('/')}/"}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint:
        spec["endpoint"] = endpoint
        region = region or "us-east-1"
    if region:
        spec["aws_region"] = region
    files = (("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"), ("AWS_CONFIG_FILE", "~/.aws/config"))
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        spec["aws_credentials"] = {"type": "environment"}
    elif not (
        # Asking a cloud machine's own service for credentials takes seconds elsewhere, so it has to be asked for.
        os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "false"
        or any(os.environ.get(name) for name in _AWS_CREDENTIALS)
        or any(Path(os.environ.get(name, usual)).expanduser().is_file() for name, usual in files)
    ):
        spec["aws_credentials"] = {"type": "anonymous"}
    return spec
