"""Organelles drawn in small windows: they look like membranes and are none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Canvas:
    """Grey values of a strip of rows.

    Attributes:
        grey: shape (h, X), float32, drawn on in place; 0 = black, 1 = white.
        top: first row of the strip in the mosaic, px.
        pixel_size_nm: side of a pixel, nm.
    """

    grey: Floats
    top: int
    pixel_size_nm: float

    def window(self, y_nm: float, x_nm: float, reach_nm: float) -> tuple[Floats, Floats, Floats]:
        """The part of the strip within a square around a point.

        Returns:
            A view of the grey values, shape (a, b), and the offsets of its pixel centres from the
            point in nm, shapes (a, 1) and (1, b). Any of a and b may be 0.
        """
        spans, offsets = [], []
        limits = ((y_nm, self.top, self.grey.shape[0]), (x_nm, 0, self.grey.shape[1]))
        for centre, origin, length in limits:
            first = max(math.floor((centre - reach_nm) / self.pixel_size_nm) - origin, 0)
            last = min(math.ceil((centre + reach_nm) / self.pixel_size_nm) - origin, length)
            spans.append(slice(first, max(first, last)))
            pixels = np.arange(first, max(first, last)) + origin + 0.5
            offsets.append((pixels * self.pixel_size_nm - centre).astype(np.float32))
        return self.grey[spans[0], spans[1]], offsets[0][:, None], offsets[1][None, :]


class Shape(Protocol):
    """Something that can be drawn on a strip."""

    @property
    def span_nm(self) -> tuple[float, float]:
        """First and last row it touches, nm."""
        ...

    def draw(self, canvas: Canvas) -> None:
        """Draw the part that lies in the strip."""
        ...


def _line(distance: Floats, width_nm: float) -> Floats:
    """Profile of a thin line: 1 on the line, 1/e half a width away from it."""
    return np.asarray(np.exp(-np.square(distance * np.float32(2 / width_nm))), np.float32)


@dataclass(frozen=True)
class Ellipse:
    """A bent ellipse; lengths in nm, angle in radians, grey values from 0 to 1."""

    y: float
    x: float
    long: float
    short: float
    angle: float
    bend: float
    phase: float

    @property
    def reach(self) -> float:
        """Radius of a circle around the whole shape, nm."""
        return math.hypot(self.long, self.short + abs(self.bend) * self.long) + 5

    @property
    def span_nm(self) -> tuple[float, float]:
        """First and last row it touches, nm."""
        return self.y - self.reach, self.y + self.reach

    def to_mosaic(
        self, u: NDArray[np.float64], v: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points given as shares of the half axes, in mosaic coordinates Y X, nm."""
        along, across = u * self.long, v * self.short + self.bend * self.long * np.square(u)
        sine, cosine = math.sin(self.angle), math.cos(self.angle)
        return self.y + along * sine + across * cosine, self.x + along * cosine - across * sine

    def depth(self, dy: Floats, dx: Floats) -> tuple[Floats, Floats, Floats]:
        """Distance inside the outline (negative outside) and position along both axes, nm."""
        sine, cosine = np.float32(math.sin(self.angle)), np.float32(math.cos(self.angle))
        u, v = dy * sine + dx * cosine, dy * cosine - dx * sine
        v -= np.float32(self.bend / self.long) * u * u
        a, b = np.float32(self.long), np.float32(self.short)
        radius = np.sqrt(np.square(u / a) + np.square(v / b)) + np.float32(1e-3)
        slope = np.sqrt(np.square(u / (a * a)) + np.square(v / (b * b))) / radius + np.float32(1e-6)
        return np.minimum((1 - radius) / slope, b), u, v


@dataclass(frozen=True)
class Mitochondrion(Ellipse):
    """Dark double membrane, grey matrix, cristae across the long axis."""

    matrix: float = 0.45
    dark: float = 0.2

    def draw(self, canvas: Canvas) -> None:
        """Draw the part that lies in the strip."""
        grey, dy, dx = canvas.window(self.y, self.x, self.reach)
        if grey.size == 0:
            return
        depth, u, v = self.depth(dy, dx)
        inside = np.clip(depth / 4, 0, 1)
        wave = np.sin(u / 7 + np.float32(self.phase) + np.sin(v / 24 + u / 60) * np.float32(1.3))
        crista = np.clip(wave * 3 - 2, 0, 1) * np.clip((depth - 22) / 8, 0, 1)
        wall = np.maximum(_line(depth - 4, 9), _line(depth - 17, 7) * np.float32(0.8))
        shade = np.maximum(wall, crista * np.float32(0.75))
        value = np.float32(self.matrix) + np.float32(self.dark - self.matrix) * shade
        grey += np.maximum(inside, wall) * (value - grey)


@dataclass(frozen=True)
class DenseBody(Ellipse):
    """A filled dark body without inner structure, such as a lysosome."""

    dark: float = 0.25

    def draw(self, canvas: Canvas) -> None:
        """Draw the part that lies in the strip."""
        grey, dy, dx = canvas.window(self.y, self.x, self.reach)
        if grey.size:
            depth, u, v = self.depth(dy, dx)
            mottled = np.float32(self.dark) + np.float32(0.07) * np.sin(u / 13 + self.phase) * np.sin(v / 11)
            grey += np.clip(depth / 14, 0, 1) * (mottled - grey)


@dataclass(frozen=True)
class Vesicle:
    """A ring with a bright lumen; lengths in nm, grey values from 0 to 1."""

    y: float
    x: float
    radius: float
    dark: float

    @property
    def span_nm(self) -> tuple[float, float]:
        """First and last row it touches, nm."""
        return self.y - self.radius - 5, self.y + self.radius + 5

    def draw(self, canvas: Canvas) -> None:
        """Draw the part that lies in the strip."""
        grey, dy, dx = canvas.window(self.y, self.x, self.radius + 5)
        distance = np.hypot(dy, dx)
        grey += np.clip((self.radius - distance) / 6, 0, 1) * np.float32(0.06)
        grey += _line(distance - np.float32(self.radius - 4), 9) * (np.float32(self.dark) - grey)


@dataclass(frozen=True)
class Cistern:
    """A curved line of endoplasmic reticulum, single or as a pair of parallel membranes.

    Attributes:
        points: shape (n, 2), Y X, nm, at most a few nm apart.
        half_gap: half the distance of the two membranes, nm; 0 for a single line.
        dark: grey value of the line, 0 to 1.
    """

    points: NDArray[np.float64]
    half_gap: float
    dark: float

    @property
    def span_nm(self) -> tuple[float, float]:
        """First and last row it touches, nm."""
        reach = self.half_gap + 12
        return float(self.points[:, 0].min()) - reach, float(self.points[:, 0].max()) + reach

    def draw(self, canvas: Canvas) -> None:
        """Draw the part that lies in the strip."""
        reach = self.half_gap + 12
        centre = (self.points.min(axis=0) + self.points.max(axis=0)) / 2
        size = float(np.ptp(self.points, axis=0).max()) / 2 + reach
        grey, dy, dx = canvas.window(centre[0], centre[1], size)
        if grey.size == 0:
            return
        distance = np.full(grey.shape, 1e3, np.float32)
        for y, x in (self.points - centre).astype(np.float32):
            rows = slice(*np.searchsorted(dy[:, 0], (y - reach, y + reach)))
            columns = slice(*np.searchsorted(dx[0], (x - reach, x + reach)))
            local = np.hypot(dy[rows] - y, dx[:, columns] - x)
            np.minimum(distance[rows, columns], local, out=distance[rows, columns])
        grey += _line(distance - np.float32(self.half_gap), 8) * (np.float32(self.dark) - grey)
