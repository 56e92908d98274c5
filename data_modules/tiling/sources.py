"""Files to tile, one entry after the other, so that a million of them need no memory."""

import csv
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from data_modules.errors import UserError
from data_modules.images.image import parse_pixel_size, refusing, split_dataset
from data_modules.images.zarr import NODE_FILES, image_of, is_array, node_file
from data_modules.store.layout import is_url

_HEAD = 2**16
_LONGEST = 120


@dataclass(frozen=True)
class Stated:
    """Facts that the user states about a file.

    Attributes:
        pixel_size_nm: One to three numbers, see :func:`~data_modules.images.image.fit_axes`; ``None`` to take the
            file's own.
        licence: Licence; empty where not stated.
        dataset: Name of the array inside an HDF5 file.
    """

    pixel_size_nm: tuple[float, ...] | None = None
    licence: str = ""
    dataset: str | None = None


@dataclass(frozen=True)
class Entry:
    """A file, a Zarr array or image, or a URL of one.

    Attributes:
        path: Path or URL to open.
        file: Path relative to the folder that was searched, beginning with that folder's name; a URL is whole.
        stated: Facts that the user states about it.
    """

    path: str
    file: str
    stated: Stated = Stated()

    @property
    def name(self) -> str:
        """Name of the source: what ``file`` has with other characters for slashes, and 32 bits of its hash."""
        digest = hashlib.blake2b(self.what.encode(errors="surrogateescape"), digest_size=4).hexdigest()
        return f"{re.sub(r'[^A-Za-z0-9.-]+', '_', self.what)[-_LONGEST:].lstrip('._')}-{digest}"

    @property
    def what(self) -> str:
        """The file, with the dataset where one is named."""
        return self.file if self.stated.dataset is None else f"{self.file}:{self.stated.dataset}"

    def fingerprint(self) -> str:
        """Hash of the first 64 KiB and the length of the file, or of the metadata of a Zarr node.

        Raises:
            RefusedError: if it cannot be read.
        """
        with refusing(self.path):
            if not is_url(self.path) and Path(self.path).is_file():
                with Path(self.path).open("rb") as file:
                    content, length = file.read(_HEAD), Path(self.path).stat().st_size
            else:
                content = b"".join(node_file(self.path, name) or b"" for name in (*NODE_FILES, ".zattrs"))
                length = len(content)
        return f"{hashlib.blake2b(content, digest_size=8).hexdigest()}-{length}"


def find_sources(data: str, stated: Mapping[str, Stated]) -> Iterator[Entry]:
    """All files of a folder and its subfolders in the order of their names, or the one file or URL.

    Hidden files, and labels inside Zarr, are passed over; files of unknown formats are not.

    Args:
        data: Folder, file, ``FILE.h5:dataset``, folder of Zarr, or URL of a Zarr array or OME-Zarr image.
        stated: Facts by file, as in :func:`read_stated`.

    Raises:
        UserError: if there is nothing at ``data``.
    """
    if is_url(data):
        yield Entry(data.rstrip("/"), data.rstrip("/"), _about(data.rstrip("/"), stated))
        return
    name, dataset = split_dataset(data)
    if dataset is not None and not Path(data).exists():
        file = Path(name)
        if not file.is_file():
            raise UserError(f"{file} does not exist: give FILE.h5:dataset")
        yield Entry(str(file), file.name, replace(_about(file.name, stated), dataset=dataset))
        return
    path = Path(data)
    if not path.exists():
        raise UserError(f"{data} does not exist: give a folder, a file, FILE.h5:dataset, or the URL of a Zarr array")
    root = path.resolve()
    if root.is_file() or _is_one(root):
        yield Entry(data, root.name, _about(root.name, stated))
        return
    for below in _walk(root, frozenset()):
        relative = below.relative_to(root).as_posix()
        yield Entry(str(Path(data) / relative), f"{root.name}/{relative}", _about(f"{root.name}/{relative}", stated))


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    state = folder.stat()
    if (identity := (state.st_dev, state.st_ino)) in above:
        return  # a link to a folder that it lies in
    in_zarr = any((folder / name).is_file() for name in NODE_FILES)
    with os.scandir(folder) as entries:
        # Names only: a million entries of scandir take several times as much memory.
        names = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    names.sort()
    for name, is_folder in names:
        if not is_folder:
            if not in_zarr:
                yield folder / name
        elif _is_one(folder / name):
            yield folder / name
        elif not (in_zarr and name == "labels"):
            yield from _walk(folder / name, above | {identity})


def _is_one(folder: Path) -> bool:
    if not any((folder / name).is_file() for name in NODE_FILES):
        return False
    try:
        return is_array(str(folder)) or image_of(str(folder)) is not None
    except ValueError:  # damaged metadata, which opening the folder as an image says
        return True


def read_stated(table: Path | None) -> dict[str, Stated]:
    """Read what the user says about files.

    Args:
        table: CSV with the column ``file`` and any of ``pixel_size_nm``, ``licence`` and ``dataset``. A file is named
            relative to the folder that is searched; a folder there speaks for all in it, ``.`` for everything.

    Returns:
        By file.

    Raises:
        UserError: if it cannot be read, naming the row.
    """
    if table is None:
        return {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--sources {table} cannot be read: {error}") from error
    known = {"file", "pixel_size_nm", "licence", "dataset"}
    if rows and ("file" not in rows[0] or set(rows[0]) - known):
        raise UserError(f"--sources {table} has columns {list(rows[0])}: file, and any of {sorted(known - {'file'})}")
    return {
        PurePosixPath(row["file"]).as_posix() if not is_url(row["file"]) else row["file"].rstrip("/"): Stated(
            parse_pixel_size(row.get("pixel_size_nm") or "", f"--sources {table}, {row['file']}"),
            (row.get("licence") or "").strip(),
            (row.get("dataset") or "").strip() or None,
        )
        for row in rows
    }


def _about(file: str, stated: Mapping[str, Stated]) -> Stated:
    if is_url(file):
        return stated.get(file) or stated.get(".") or Stated()
    path = PurePosixPath(file)
    inside = PurePosixPath(*path.parts[1:])
    # As the table of tiles names it, and relative to the folder.
    names = [each.as_posix() for each in (path, *path.parents[:-1], inside, *inside.parents)]
    return next((stated[name] for name in names if name in stated), Stated())
