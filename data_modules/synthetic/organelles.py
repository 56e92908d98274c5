"""Organelles and artefacts: curves of constant width, where they lie and how they look."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_modules.synthetic.tissue import Floats, Reals, Tissue

_BLOCK_NM = 18.0
_MARGIN_NM = 12.0
_STEP_NM = 5.0
_ATTEMPTS = 10

Room = NDArray[np.int8]
"""Blocks of 18 nm that organelles may still take: number of the cell, or -1."""


@dataclass(frozen=True)
class Curve:
    """Curve of constant width that is painted over grey values from 0 to 1.

    Attributes:
        points: Points of its central line, ``float64 (n, 2)``, Y X in nm, much closer than the curve is wide.
        radius_nm: Half of its width in nm.
        fill: Grey value inside.
        opacity: Opacity of the inside from 0 to 1.
        edge_nm: Width of the edge over which the opacity rises, in nm.
        wall: Grey value of the membrane around it, or none.
        cristae: Whether a second membrane and folds of it lie inside, as in mitochondria.
    """

    points: Reals
    radius_nm: float
    fill: float = 0.0
    opacity: float = 0.0
    edge_nm: float = 4.0
    wall: float | None = None
    cristae: bool = False

    @property
    def span_nm(self) -> tuple[float, float]:
        """First and last row that it touches in nm."""
        reach = self.radius_nm + _MARGIN_NM
        return float(self.points[:, 0].min()) - reach, float(self.points[:, 0].max()) + reach

    def draw(self, grey: Floats, top: int, pixel_size_nm: float) -> None:
        """Paint the part that lies in a strip of rows.

        Args:
            grey: Grey values of the strip, ``float32 (h, X)``; changed in place.
            top: First row of the strip in the mosaic in px.
            pixel_size_nm: Side of a pixel in nm.
        """
        reach = self.radius_nm + _MARGIN_NM
        corner = np.array([top * pixel_size_nm, 0.0])
        points = self.points - corner
        points = points[((points > -reach) & (points < np.array(grey.shape) * pixel_size_nm + reach)).all(axis=1)]
        if not len(points):
            return
        low = ((points.min(axis=0) - reach) / pixel_size_nm).astype(int).clip(0)
        high = ((points.max(axis=0) + reach) / pixel_size_nm).astype(int) + 1
        grey = grey[low[0] : high[0], low[1] : high[1]]
        y, x = ((np.arange(side) + first + 0.5) * pixel_size_nm for first, side in zip(low, grey.shape, strict=True))
        squares = np.full(grey.shape, 1e8, np.float32)
        for down, across in points:
            rows = slice(*np.searchsorted(y, (down - reach, down + reach)))
            columns = slice(*np.searchsorted(x, (across - reach, across + reach)))
            square = np.square(y[rows, None] - down) + np.square(x[columns] - across)
            np.minimum(squares[rows, columns], square, out=squares[rows, columns])
        depth = np.float32(self.radius_nm) - np.sqrt(squares)
        grey += np.float32(self.opacity) * np.clip(depth / self.edge_nm, 0, 1) * (np.float32(self.fill) - grey)
        if self.wall is not None:
            down, across = self.points[0] - corner
            shade = self._membranes(depth, y[:, None] - down, x - across) if self.cristae else _line(depth)
            grey += shade * (np.float32(self.wall) - grey)

    def _membranes(self, depth: Floats, y_nm: Reals, x_nm: Reals) -> Floats:
        """Opacity of a double membrane and its cristae; ``y_nm`` and ``x_nm`` are counted from the first point."""
        angle = math.atan2(*(self.points[-1] - self.points[0]))
        along = y_nm * math.sin(angle) + x_nm * math.cos(angle)
        aside = y_nm * math.cos(angle) - x_nm * math.sin(angle)
        wave = np.sin(along / 7 + np.sin(aside / 24 + along / 60) * 1.3)
        cristae = np.clip(wave * 3 - 2, 0, 1) * np.clip((depth - 18) / 8, 0, 1)
        return np.asarray(np.maximum(_line(depth), np.maximum(0.8 * _line(depth - 13), 0.75 * cristae)), np.float32)


def _line(distance: Floats) -> Floats:
    """Opacity of a membrane about 8 nm wide."""
    return np.asarray(np.exp(-np.square(distance / 4)), np.float32)


def place_organelles(tissue: Tissue, extent_nm: tuple[float, float], rng: np.random.Generator) -> list[Curve]:
    """Place the organelles of a mosaic, each within one cell, clear of its membrane and of each other.

    Args:
        tissue: Cells of the mosaic.
        extent_nm: Height and width of the mosaic in nm.
        rng: Source of everything random.
    """
    y, x = ((np.arange(math.ceil(side / _BLOCK_NM)) + 0.5) * _BLOCK_NM for side in extent_nm)
    cell, distance, _ = tissue.borders(y, x, _BLOCK_NM)
    room = np.where(distance > tissue.reach_nm + _BLOCK_NM, cell.astype(np.int8), np.int8(-1))
    area_um2 = extent_nm[0] * extent_nm[1] * 1e-6
    curves: list[Curve] = []
    for density, make in _ORGANELLES:
        wanted = int(rng.poisson(density * area_um2))
        for site in rng.random((wanted * _ATTEMPTS, 2)) * extent_nm:
            made = make(site, room, rng) if wanted else []
            wanted -= bool(made)
            curves += made
    return curves


def _settle(site: Reals, points: Reals, radius_nm: float, room: Room, fewest: int = 1) -> Reals:
    """Take room for a curve, which ends where it would leave the cell of a site.

    Returns:
        The points there is room for; none if they are fewer than asked for. Outside the mosaic, its nearest block
        counts.
    """
    last = np.array(room.shape) - 1
    reach = radius_nm / _BLOCK_NM + 1
    around = np.arange(-math.ceil(reach), math.ceil(reach) + 1)
    disc = np.stack(np.meshgrid(around, around), axis=-1).reshape(-1, 2)
    blocks = points[:, None] / _BLOCK_NM + disc[np.hypot(*disc.T) <= reach]
    rows, columns = np.moveaxis(blocks.astype(int).clip(0, last), -1, 0)
    home = room[tuple((site / _BLOCK_NM).astype(int).clip(0, last))]
    free = (room[rows, columns] == home).all(axis=1) & (home >= 0)
    count = len(free) if free.all() else int(free.argmin())
    if count < fewest:
        return points[:0]
    room[rows[:count], columns[:count]] = -1
    return points[:count]


def _walk(start: Reals, length_nm: float, rng: np.random.Generator) -> Reals:
    """Points 5 nm apart along a line whose direction turns slowly."""
    count = 1 + int(length_nm / _STEP_NM)
    # The limit keeps the radius of curvature above 200 nm, so that lines do not curl up.
    turn = np.clip(np.cumsum(rng.normal(0, 0.004, count)), -0.025, 0.025)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(turn)
    return start + _STEP_NM * np.cumsum(np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=0)


def _mitochondrion(site: Reals, room: Room, rng: np.random.Generator) -> list[Curve]:
    radius = rng.uniform(80, 180)
    points = _settle(site, _walk(site, rng.uniform(0, 640), rng), radius, room)
    fill, wall = rng.uniform(0.32, 0.5), rng.uniform(0.12, 0.26)
    return [Curve(points, radius, fill, 1.0, wall=wall, cristae=True)] if len(points) else []


def _dense_body(site: Reals, room: Room, rng: np.random.Generator) -> list[Curve]:
    radius = rng.uniform(45, 120)
    points = _settle(site, _walk(site, rng.uniform(0, radius), rng), radius, room)
    return [Curve(points, radius, rng.uniform(0.1, 0.3), 0.9, edge_nm=14.0)] if len(points) else []


def _cistern(site: Reals, room: Room, rng: np.random.Generator) -> list[Curve]:
    """Line of endoplasmic reticulum, single or as a pair of parallel membranes."""
    radius = float(rng.choice((0.0, 9.0, 13.0)))
    points = _settle(site, _walk(site, 1200, rng), radius, room, fewest=24)
    return [Curve(points, radius, wall=rng.uniform(0.15, 0.45))] if len(points) else []


def _vesicles(site: Reals, room: Room, rng: np.random.Generator) -> list[Curve]:
    """Cluster of vesicles of 35 to 50 nm, cut off at the border of the cell."""
    places = site + rng.uniform(60, 170) * rng.standard_normal((int(rng.integers(15, 90)), 1, 2))
    settled = [place for place in places if len(_settle(site, place, 22.0, room))]
    return [Curve(place, rng.uniform(13, 21), 0.75, 0.3, wall=rng.uniform(0.2, 0.45)) for place in settled]


# How many there are per µm², where they fit.
_ORGANELLES = ((0.7, _mitochondrion), (0.15, _dense_body), (1.4, _cistern), (0.9, _vesicles))


def make_artefacts(extent_nm: tuple[float, float], per_1000um2: float, rng: np.random.Generator) -> list[Curve]:
    """Make folds and knife marks across the whole mosaic, and dark particles of dirt.

    Args:
        extent_nm: Height and width of the mosaic in nm.
        per_1000um2: Expected number of each kind.
        rng: Source of everything random.
    """
    folds, marks, particles = rng.poisson(per_1000um2 * extent_nm[0] * extent_nm[1] * 1e-9, 3)
    curves = []
    for narrow, wide, look in [(50, 130, (0.0, 0.55))] * int(folds) + [(12, 28, (1.0, 0.3))] * int(marks):
        radius, angle = rng.uniform(narrow, wide), rng.uniform(0, np.pi)
        along = np.arange(-1, 1, 5 / math.hypot(*extent_nm)) * math.hypot(*extent_nm)
        aside = 60 * np.sin(along / 900) + radius / 4 * np.sin(along / 150)
        turned = [along * math.sin(angle) + aside * math.cos(angle), along * math.cos(angle) - aside * math.sin(angle)]
        points = np.stack(turned, axis=1) + rng.random(2) * extent_nm
        curves.append(Curve(points, radius, *look, edge_nm=radius))
    for _ in range(int(particles)):
        radius = rng.uniform(60, 250)
        blob = _walk(rng.random(2) * extent_nm, rng.uniform(0, radius / 2), rng)
        curves.append(Curve(blob, radius, 0.0, 0.75, edge_nm=15.0))
    return curves
