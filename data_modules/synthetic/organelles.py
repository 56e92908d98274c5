"""Placement of organelles: each one lies inside a single cell and none overlaps another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from data_modules.synthetic.cells import CellLattice, thin_out
from data_modules.synthetic.shapes import Cistern, DenseBody, Ellipse, Mitochondrion, Shape, Vesicle

Reals = NDArray[np.float64]
AnEllipse = TypeVar("AnEllipse", bound=Ellipse)

_ATTEMPTS = 40
_STEP_NM = 5.0
# Half the width of the widest pair of lines, and the radius of the largest vesicle, with soft edges.
_CISTERN_CLEARANCE_NM = 20.0
_VESICLE_CLEARANCE_NM = 28.0
_RING = np.array([(math.sin(a), math.cos(a)) for a in np.arange(8) * math.pi / 4]).T
# Offsets of neighbouring blocks: room taken is widened by two blocks, the width of a pair of lines.
_AROUND = np.stack(np.meshgrid(np.arange(-2, 3), np.arange(-2, 3)), axis=-1).reshape(-1, 2)


@dataclass(frozen=True)
class Densities:
    """How many organelles to place, each per µm² of mosaic.

    Attributes:
        mitochondria: mitochondria.
        dense_bodies: filled dark bodies.
        cisterns: lines of endoplasmic reticulum.
        vesicle_clusters: clusters of up to 90 vesicles.
    """

    mitochondria: float
    dense_bodies: float
    cisterns: float
    vesicle_clusters: float


class _Room:
    """The blocks of the cell lattice that organelles may still take."""

    def __init__(self, lattice: CellLattice) -> None:
        self._label = lattice.label
        self._free = ~lattice.near
        self._block_nm = lattice.block_nm

    def _blocks(self, y: Reals, x: Reals) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the blocks under some points, or of the nearest ones outside the mosaic."""
        height, width = self._free.shape
        rows, columns = (np.floor(axis / self._block_nm).astype(np.intp) for axis in (y, x))
        return rows.clip(0, height - 1), columns.clip(0, width - 1)

    def cell(self, y: Reals, x: Reals) -> NDArray[np.intp]:
        """Cells at some points, of the same shape."""
        return np.asarray(self._label[self._blocks(y, x)], np.intp)

    def holds(self, y: Reals, x: Reals, cell: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which points are free and in a given cell; the arguments broadcast.

        Points outside the mosaic count as their nearest block, so that its edges cut organelles.
        """
        blocks = self._blocks(y, x)
        return np.asarray(self._free[blocks] & (self._label[blocks] == cell), np.bool_)

    def holds_discs(self, y: Reals, x: Reals, radius_nm: float, cell: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which discs of one radius are free and in a given cell; y, x and cell have shape (n,)."""
        around = radius_nm * _RING
        free = self.holds(y[:, None] + around[0], x[:, None] + around[1], cell[:, None])
        return np.asarray(free.all(axis=1), np.bool_)

    def take(self, y: Reals, x: Reals) -> None:
        """Mark the blocks under some points and their neighbours as taken."""
        height, width = self._free.shape
        rows, columns = self._blocks(y, x)
        for dy, dx in _AROUND:
            self._free[(rows + dy).clip(0, height - 1), (columns + dx).clip(0, width - 1)] = False

    def sites(self, count: int, rng: np.random.Generator) -> Reals:
        """Random free points, shape (count or fewer, 2), Y X, nm."""
        points = rng.random((count, 2)) * np.asarray(self._free.shape) * self._block_nm
        return np.asarray(points[self._free[self._blocks(points[:, 0], points[:, 1])]], np.float64)


def _disc_grid(spacing: float) -> tuple[Reals, Reals]:
    """Points that fill the unit disc, the centre first, as shares of the radius."""
    rings = [np.zeros((2, 1))]
    for radius in np.linspace(1, 0, math.ceil(1 / spacing), endpoint=False):
        angle = np.arange(0, 2 * np.pi, spacing / radius)
        rings.append(radius * np.stack([np.cos(angle), np.sin(angle)]))
    u, v = np.concatenate(rings, axis=1)
    return u, v


def _place_ellipses(proposals: Sequence[AnEllipse], wanted: int, room: _Room) -> list[AnEllipse]:
    """The first proposals that fit; the room they take is marked."""
    # Half axes are at most 500 nm, so that neighbouring points are at most about a block apart.
    u, v = _disc_grid(0.03)
    edge_u, edge_v = _disc_grid(0.5)
    placed: list[AnEllipse] = []
    for shape in proposals:
        if len(placed) == wanted:
            break
        cell = room.cell(np.asarray(shape.y), np.asarray(shape.x))
        # The coarse test rejects most proposals at a fraction of the cost.
        if not room.holds(*shape.to_mosaic(edge_u, edge_v), cell).all():
            continue
        points = shape.to_mosaic(u, v)
        if room.holds(*points, cell).all():
            placed.append(shape)
            room.take(*points)
    return placed


def _mitochondria(wanted: int, room: _Room, rng: np.random.Generator) -> list[Mitochondrion]:
    """Mitochondria 160 to 360 nm wide and up to 1 µm long."""
    proposals: list[Mitochondrion] = []
    for y, x in room.sites(wanted * _ATTEMPTS, rng):
        short = rng.uniform(80, 180)
        long = min(short * rng.uniform(1.0, 3.2), 500)
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        matrix, dark = rng.uniform(0.32, 0.5), rng.uniform(0.12, 0.26)
        bend = rng.uniform(-0.12, 0.12)
        proposals.append(Mitochondrion(y, x, long, short, angle, bend, phase, matrix, dark))
    return _place_ellipses(proposals, wanted, room)


def _dense_bodies(wanted: int, room: _Room, rng: np.random.Generator) -> list[DenseBody]:
    """Dark bodies 90 to 320 nm wide."""
    proposals: list[DenseBody] = []
    for y, x in room.sites(wanted * _ATTEMPTS, rng):
        short = rng.uniform(45, 120)
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        long = short * rng.uniform(1, 1.4)
        proposals.append(DenseBody(y, x, long, short, angle, 0.0, phase, rng.uniform(0.15, 0.35)))
    return _place_ellipses(proposals, wanted, room)


def _cisterns(wanted: int, room: _Room, rng: np.random.Generator) -> list[Cistern]:
    """Random walks of slowly turning direction, cut where they would leave the free room."""
    start = room.sites(wanted * 3, rng)[:wanted]
    steps = (len(start), 240)
    # The limit keeps the radius of curvature above 200 nm, so that lines do not curl up.
    turn = np.clip(np.cumsum(rng.normal(0, 0.004, steps), axis=1), -0.025, 0.025)
    heading = rng.uniform(0, 2 * np.pi, (len(start), 1)) + np.cumsum(turn, axis=1)
    y = start[:, :1] + np.cumsum(np.sin(heading), axis=1) * _STEP_NM
    x = start[:, 1:] + np.cumsum(np.cos(heading), axis=1) * _STEP_NM
    lines: list[Cistern] = []
    home = room.cell(start[:, 0], start[:, 1])
    for i in range(len(start)):
        free = room.holds_discs(y[i], x[i], _CISTERN_CLEARANCE_NM, np.full(steps[1], home[i]))
        length = len(free) if free.all() else int(free.argmin())
        if length * _STEP_NM > 120:
            points = np.column_stack([y[i, :length], x[i, :length]])
            room.take(points[:, 0], points[:, 1])
            lines.append(Cistern(points, float(rng.choice((0.0, 9.0, 13.0))), rng.uniform(0.15, 0.45)))
    return lines


def _vesicles(clusters: int, room: _Room, rng: np.random.Generator) -> list[Vesicle]:
    """Clusters of vesicles of 35 to 50 nm outer diameter, cut off at the cell border."""
    centres = room.sites(clusters * 3, rng)[:clusters]
    members = rng.integers(15, 90, len(centres))
    home = np.repeat(centres, members, axis=0)
    points = home + rng.normal(0, 1, home.shape) * np.repeat(rng.uniform(60, 170, len(centres)), members)[:, None]
    cell = room.cell(home[:, 0], home[:, 1])
    points = points[room.holds_discs(points[:, 0], points[:, 1], _VESICLE_CLEARANCE_NM, cell)]
    points = points[thin_out(points, np.full(len(points), 24.0))]
    return [
        Vesicle(y, x, radius, dark)
        for (y, x), radius, dark in zip(
            points, rng.uniform(17.5, 25, len(points)), rng.uniform(0.2, 0.45, len(points)), strict=True
        )
    ]


def place_organelles(lattice: CellLattice, densities: Densities, rng: np.random.Generator) -> list[Shape]:
    """Place all organelles of a mosaic.

    Args:
        lattice: the cells.
        densities: how many of each kind, per µm².
        rng: source of the positions.

    Returns:
        The organelles in a fixed order; none overlaps another, and all keep clear of the membranes.
    """
    area = lattice.label.size * lattice.block_nm**2 * 1e-6
    room = _Room(lattice)
    return [
        *_mitochondria(int(rng.poisson(densities.mitochondria * area)), room, rng),
        *_dense_bodies(int(rng.poisson(densities.dense_bodies * area)), room, rng),
        *_cisterns(int(rng.poisson(densities.cisterns * area)), room, rng),
        *_vesicles(int(rng.poisson(densities.vesicle_clusters * area)), room, rng),
    ]
