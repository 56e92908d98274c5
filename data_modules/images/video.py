"""AVI and MP4 files: every frame is a section."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from data_modules.images.image import Image, Pixels, RefusedError, Region

_APART = 16
"""Grey levels between red, green and blue that lossy coding of a grey video may leave."""
_COLOURED = 0.01
"""Share of pixels further apart that makes a frame coloured."""
_COMPLETE = 0.99
"""Share of the stated frames that have to be there; edit lists leave some out on purpose."""


@dataclass
class _Frames:
    """Frames, decoded one after the other; going back starts again from the first."""

    path: Path
    _next: int = 0
    _frames: Iterator[Any] | None = field(default=None, repr=False)
    _last: tuple[int, NDArray[np.uint8]] | None = field(default=None, repr=False)

    def fetch(self, region: Region) -> Pixels:
        return np.stack([self._frame(section)[region[1:]] for section in range(region[0].start, region[0].stop)])

    def _frame(self, section: int) -> NDArray[np.uint8]:
        if self._last is None or self._last[0] != section:
            if self._frames is None or section < self._next:
                self._frames, self._next = _decode(self.path), 0
            for frame in self._frames:
                self._next += 1
                if self._next > section:
                    self._last = section, _grey(frame, self.path, section)
                    break
            else:
                raise RefusedError(f"{self.path} ends before frame {section}: copy it again")
        assert self._last is not None
        return self._last[1]


@contextmanager
def open_video(path: str) -> Iterator[Image]:
    """Open an AVI or MP4 file.

    It is decoded once to count its frames, since headers are often wrong about them. Luma of limited range (16–235)
    becomes 0–255, as players show it.

    Raises:
        UserError: if it has no frames.
        av.error.FFmpegError: if it is damaged.
    """
    with av.open(path) as container:
        stated = max((stream.frames for stream in container.streams.video), default=0)
    frames, shape, name = 0, (0, 0), ""
    for frame in _decode(Path(path)):
        frames += 1
        shape, name = (frame.height, frame.width), frame.format.name
    if frames < _COMPLETE * stated:
        raise RefusedError(f"{path} is truncated: {frames} of its {stated} frames can be decoded; copy it again")
    remarks = (f"video frames of {name}, which coding may have blurred",)
    fetch = _Frames(Path(path)).fetch
    yield Image(path, "video", (frames, *shape), np.dtype(np.uint8), fetch, frames=True, remarks=remarks)


def _decode(path: Path) -> Iterator[Any]:
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise RefusedError(f"{path} has no video in it")
        yield from container.decode(container.streams.video[0])


def _grey(frame: Any, path: Path, section: int) -> NDArray[np.uint8]:
    if not frame.format.name.startswith("gray"):
        colours = frame.to_ndarray(format="rgb24")
        apart = colours.max(axis=-1) - colours.min(axis=-1)
        if np.count_nonzero(apart > _APART) > _COLOURED * apart.size:
            raise RefusedError(f"{path} (frame {section}) has real colour: convert it to grey first")
    grey: NDArray[np.uint8] = frame.to_ndarray(format="gray")
    return grey
