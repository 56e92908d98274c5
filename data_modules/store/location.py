"""Locations of stores, folders or URLs, and their groups and metadata."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from data_modules.errors import UserError
from data_modules.store import tensors
from data_modules.store.layout import ReadError, is_url
from data_modules.store.sharded import local_stamp

Metadata = dict[str, Any]
Answer = TypeVar("Answer")
SCHEMES = ("s3", "gs", "http", "https")
"""Schemes of URLs that can be read, beside ``file``, which means a folder."""


@dataclass(frozen=True)
class Location:
    """A group or array of a store.

    Attributes:
        root: Folder or URL of the store.
        key: Place of the node below the root, with slashes; empty for the root.
        nodes: Nodes of a remote store by key, with their metadata where these are known already.
    """

    root: str
    key: str = ""
    nodes: dict[str, Metadata | None] | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def child(self, key: str) -> "Location":
        """The node ``key`` below this one."""
        return Location(self.root, f"{self.key}/{key}" if self.key else key, self.nodes)

    def exists(self) -> bool:
        """Whether there is something; for a remote node, whether it has metadata."""
        return Path(str(self)).is_dir() if self.nodes is None else self.key in self.nodes

    def children(self) -> list["Location"]:
        """Folders below this one, or nodes of a remote store, sorted; hidden ones are left out."""
        if self.nodes is None:
            names = {path.name for path in Path(str(self)).iterdir() if path.is_dir()}
        else:
            start = f"{self.key}/" if self.key else ""
            names = {key[len(start) :].partition("/")[0] for key in self.nodes if key.startswith(start)} - {""}
        return [self.child(name) for name in sorted(names) if not name.startswith(".")]

    def groups(self) -> list["Location"]:
        """Children that have metadata."""
        return [child for child in self.children() if child.has_metadata()]

    def has_metadata(self) -> bool:
        """Whether there is a ``zarr.json``."""
        return (Path(str(self)) / "zarr.json").is_file() if self.nodes is None else self.key in self.nodes

    def metadata(self) -> Metadata:
        """Content of ``zarr.json``.

        Raises:
            UserError: if it is missing, damaged or cannot be read.
        """
        if self.nodes is None:
            try:
                return _parse((Path(str(self)) / "zarr.json").read_bytes(), str(self))
            except FileNotFoundError:
                raise UserError(
                    f"{self}/zarr.json is missing: the store is damaged; convert this sample again"
                ) from None
            except OSError as error:
                raise UserError(f"{self}/zarr.json cannot be read: {error.strerror}") from error
        known = self.nodes.get(self.key)
        if known is None:
            content = _ask(self.root, lambda: tensors.get(self.root, f"{self.key}/zarr.json"))
            if content is None:
                raise UserError(
                    f"{self}/zarr.json is missing: the store is damaged; convert and upload this sample again"
                )
            known = self.nodes[self.key] = _parse(content, str(self))
        return known

    def stamp(self) -> str:
        """Text that changes when this array is replaced."""
        return local_stamp(str(self)) if self.nodes is None else tensors.remote_stamp(self.metadata())


def locate(path: str | os.PathLike[str]) -> Location:
    """Find the root of a store.

    Args:
        path: Folder, or URL with ``file``, ``s3``, ``gs``, ``http`` or ``https``.

    Raises:
        UserError: if there is no store, or if a URL cannot be reached or listed.
    """
    text = os.fspath(path)
    address = urlsplit(text)
    if not is_url(text) or address.scheme == "file":
        folder = Path(unquote(address.path) if is_url(text) else text)
        if not folder.is_dir():
            raise UserError(f"no store at {folder}: check the path, or make one with `emseg data convert`")
        if not (folder / "zarr.json").is_file():
            raise UserError(f"{folder} is not a zarr v3 store (no zarr.json): make one with `emseg data convert`")
        return Location(str(folder))
    if address.scheme not in SCHEMES or not address.netloc:
        raise UserError(f"{text}: stores are folders or URLs with {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    if address.query or address.fragment:
        raise UserError(f"{text}: a URL with a query or fragment cannot name a store, which is many objects")
    return _locate_remote(text.rstrip("/"))


def local_folder(path: str | os.PathLike[str]) -> Path:
    """The folder of a store that is to be written.

    Raises:
        UserError: if ``path`` is a URL, for these can be read only.
    """
    text = os.fspath(path)
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    # A Path has only one of the two slashes left.
    if re.match(rf"({'|'.join(SCHEMES)}):/", text):
        raise UserError(f"{text}: stores behind URLs can be read, not written: write to a folder, then upload it")
    return Path(text)


def _locate_remote(url: str) -> Location:
    content = _ask(url, lambda: tensors.get(url, "zarr.json"))
    if content is None:
        raise UserError(f"no store at {url} (there is no {url}/zarr.json): check host or bucket, and path")
    root = _parse(content, url)
    consolidated = (root.get("consolidated_metadata") or {}).get("metadata")
    if consolidated is not None:
        return Location(url, nodes={**consolidated, "": root})
    if url.startswith("http"):
        raise UserError(
            f"{url} cannot be listed, as no http server can: run `emseg data consolidate STORE` where the store lies "
            "on disk, which writes the list into its zarr.json, and upload that file again"
        )
    listed = _ask(url, lambda: tensors.keys(url))
    nodes: dict[str, Metadata | None] = {
        key.removesuffix("/zarr.json"): None for key in listed if key.endswith("/zarr.json")
    }
    return Location(url, nodes={**nodes, "": root})


def _ask(url: str, question: Callable[[], Answer]) -> Answer:
    """Call a function that reads from a server.

    Raises:
        UserError: if the server refuses or does not answer, with what to check.
    """
    try:
        return question()
    except ReadError as failure:
        cause = str(failure)
        # A port or a name may hold these numbers, too.
        refused = re.search(r"PERMISSION_DENIED|UNAUTHENTICATED|HTTP code 40[13]\b", cause) is not None
        advice = {
            "s3": "AWS_ENDPOINT_URL, AWS_REGION and the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE; without any the store is read anonymously)",
            "gs": "GOOGLE_APPLICATION_CREDENTIALS (without it the store is read anonymously)",
        }.get(url.partition(":")[0], "host, port, proxy and certificate")
        state = "access is refused" if refused else "cannot be reached"
        raise UserError(
            f"{url}: {state}. Check the spelling of the URL, the network, and {advice}.\n  cause: {cause}"
        ) from failure


def _parse(content: bytes, where: str) -> Metadata:
    try:
        parsed = json.loads(content)
    except ValueError as error:  # no JSON, or no UTF-8
        raise UserError(f"{where}/zarr.json is damaged ({error}): convert this sample again") from None
    if not isinstance(parsed, dict):
        raise UserError(f"{where}/zarr.json holds no zarr metadata: convert this sample again")
    return parsed
