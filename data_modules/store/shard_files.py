"""Open shards with their indexes: a bounded number of files, a bounded amount of memory, safe in threads and forks."""

import os
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from data_modules.store.errors import ReadError
from data_modules.store.settings import cache_bytes

Index = NDArray[np.uint64]
_Stamp = tuple[int, int, int]
MOST_OPEN = 128
"""Files that are kept open; a process may usually open 1,024."""
_SETTLED_NS = 2_000_000_000
CRC_BYTES = 4


class ShardFile:
    """A shard that is open for reading; the last reference closes it, so no thread reads from a closed one.

    Attributes:
        path: Of the file.
        stamp: Inode, time of change in ns, size in bytes.
        index: Offset and length of every chunk in bytes, ``uint64 (chunks, 2)``; both are 2⁶⁴ − 1 for a missing one.
    """

    def __init__(self, path: str, chunks: int) -> None:
        self._descriptor: int | None = None
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            self.stamp = _stamp(os.fstat(self._descriptor))
        except OSError as error:
            raise failure_of(path, error) from error
        self.index = self._read_index(chunks)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # Bound here, because modules are empty when the interpreter ends.
        if self._descriptor is not None:
            close(self._descriptor)

    def read(self, offset: int, length: int, into: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bytes of the file without the checksum that they end with, which is compared.

        Args:
            offset: In bytes.
            length: In bytes, the checksum of 4 bytes included.
            into: Buffer of at least ``length`` bytes.

        Raises:
            ReadError: if the file ends before, if the checksum differs, or if the system cannot read.
        """
        assert self._descriptor is not None
        try:
            got = os.preadv(self._descriptor, [into[:length].data], offset)
        except OSError as error:
            raise failure_of(self.path, error) from error
        if got != length or length < CRC_BYTES:
            raise ReadError("damaged", f'bytes {offset}:{offset + length} of "{self.path}", which has {self.stamp[2]}')
        content = into[: length - CRC_BYTES]
        (stored,) = struct.unpack("<I", into[length - CRC_BYTES : length].tobytes())
        computed = google_crc32c.value(content)
        if stored != computed:
            raise ReadError(
                "damaged",
                f'checksum of bytes {offset}:{offset + length} of "{self.path}" is {computed:#010x}, '
                f"but {stored:#010x} was stored",
            )
        return content

    def _read_index(self, chunks: int) -> Index:
        length = 16 * chunks + CRC_BYTES
        size = self.stamp[2]
        if size < length:
            raise ReadError("damaged", f'"{self.path}" has {size} bytes, fewer than its index of {length}')
        content = self.read(size - length, length, np.empty(length, np.uint8))
        return content.view("<u8").reshape(chunks, 2)


class ShardFiles:
    """The shards that were used last; a file that has changed on disk is opened anew."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, ShardFile] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def open(self, path: str, chunks: int) -> ShardFile:
        """The shard at ``path``, whose index has ``chunks`` entries.

        Raises:
            ReadError: if it is missing, has no sound index or cannot be read.
        """
        try:
            status = os.stat(path)  # noqa: PTH116 - a Path costs more than the call
        except OSError as error:
            raise failure_of(path, error) from error
        with self._lock:
            known = self._files.get(path)
            if known is not None and known.stamp == _stamp(status) and len(known.index) == chunks:
                self._files.move_to_end(path)
                return known
        opened = ShardFile(path, chunks)
        # A file that was written a moment ago may be written again without its time of change moving on.
        if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
            self._keep(opened)
        return opened

    def _keep(self, opened: ShardFile) -> None:
        most_bytes = cache_bytes()
        with self._lock:
            replaced = self._files.pop(opened.path, None)
            self._bytes -= 0 if replaced is None else replaced.index.nbytes
            self._files[opened.path] = opened
            self._bytes += opened.index.nbytes
            while self._files and (self._bytes > most_bytes or len(self._files) > MOST_OPEN):
                _, dropped = self._files.popitem(last=False)
                self._bytes -= dropped.index.nbytes

    def __len__(self) -> int:
        return len(self._files)


def failure_of(path: str, error: OSError) -> ReadError:
    """What a failed system call on ``path`` means."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ReadError("missing", f'"{path}" is missing')
    return ReadError("unreadable", f'"{path}": {error.strerror}')


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_ino, status.st_mtime_ns, status.st_size


files = ShardFiles()


def _after_fork() -> None:
    # Another thread of the parent may have held the lock.
    global files
    files = ShardFiles()


os.register_at_fork(after_in_child=_after_fork)
