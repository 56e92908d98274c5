"""Blending a 9,958 × 9,959 mosaic against MONAI's ``sliding_window_inference``; the network costs next to nothing.

Both get the same tiles, overlap, weights and predictions. That their maps are equal is checked before anything is
timed.
"""

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor

from data_modules.geometry import Grid, RowSpan, Shape, Sweep
from lightning_emseg.inference.stitching import SweepStitcher, TileBand, window
from tests.bench.harness import Row, interleave, median, peak_of

SHAPE: Shape = (9958, 9959)
TILE, OVERLAP, BATCH = 1024, 0.5, 4
REPEATS = 5
MONAI = "MONAI sliding_window_inference"


def rows(scratch: Path) -> Iterator[Row]:
    """Overhead over the bare forward passes, and memory beyond what the image and the libraries take."""
    image = image_of(SHAPE)
    off = _difference(image)
    seconds = interleave(
        {
            "ours": lambda: [None for _ in ours(image)],
            "blending": lambda: blended(image),
            MONAI: lambda: monai(image),
            "bare": lambda: [None for _ in bare(image)],
        },
        repeats=REPEATS,
        warmup=0,
    )
    passes = median(seconds["bare"])
    own, other = median(seconds["ours"]) - passes, median(seconds[MONAI]) - passes
    tiles = f"{len(Grid(SHAPE, (TILE, TILE), OVERLAP))} tiles of {TILE}², {OVERLAP:.0%} overlap, Gaussian"
    yield Row(
        "stitching",
        f"overhead over bare forward passes; {tiles}",
        own,
        "s",
        f"{MONAI}: {other:.2f} s",
        own / other,
        "≤ 0.5 ×",
        own <= 0.5 * other,
        f"equal maps: {off:.0e} levels of 8 bit beyond rounding, which only ours includes; {image.device.type}",
    )
    alone = median(seconds["blending"]) - passes
    yield Row(
        "stitching",
        "of it, blending alone: the float32 map that MONAI makes, neither checked for NaN nor rounded",
        alone,
        "s",
        f"{MONAI}: {other:.2f} s",
        alone / other,
    )
    yield _memory()


def _memory() -> Row:
    idle, held, peak = (peak_of(function).peak_mib for function in (_run_nothing, _run_ours, _run_monai))
    return Row(
        "stitching",
        "peak memory beyond image and libraries",
        held - idle,
        "MiB",
        f"{MONAI}: {peak - idle:.0f} MiB",
        (held - idle) / (peak - idle),
        note="processes of their own; host memory",
    )


def _difference(image: Tensor) -> float:
    """Levels of 8 bit by which the maps differ beyond half a level, which rounding may cost.

    Raises:
        RuntimeError: if that is more than single precision explains.
    """
    theirs, largest = monai(image), 0.0
    for start, levels in ours(image):
        expected = theirs[start : start + len(levels)] * 255
        largest = max(largest, float((levels - expected).abs().max()) - 0.5)
    if largest > 1e-3:
        raise RuntimeError(f"the maps differ by {largest:.3f} levels of 8 bit beyond rounding: nothing is timed")
    return largest


def image_of(shape: Shape) -> Tensor:
    """``float32 (Y, X)``, 0–1, where a GPU is at hand on it."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.rand(shape, generator=torch.Generator(device).manual_seed(0), device=device)


@functools.cache
def _buffers(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """A fixed field, and room for a batch of tiles and of predictions, so that no candidate pays for the other's."""
    field = torch.rand(TILE, TILE, generator=torch.Generator().manual_seed(0)).to(device)
    return field, torch.empty(BATCH, TILE, TILE, device=device), torch.empty(BATCH, TILE, TILE, device=device)


def network(tiles: Tensor) -> Tensor:
    """A prediction that depends on the place in the tile, so that overlapping tiles disagree."""
    field, _, predictions = _buffers(tiles.device)
    return torch.mul(tiles, field, out=predictions[: len(tiles)].view(tiles.shape))


def _sweep(image: Tensor) -> Sweep:
    shape = tuple(image.shape)
    return Sweep((Grid(shape, (TILE, TILE), OVERLAP),), (RowSpan(0, 0, shape[0]),), BATCH)


def bare(image: Tensor) -> Iterator[tuple[tuple[Shape, ...], Tensor]]:
    """Tiles and what the network makes of them, in the order of a sweep."""
    sweep = _sweep(image)
    for origins in sweep.runs(sweep.spans[0]):
        _, room, _ = _buffers(image.device)
        tiles = [image[y : y + TILE, x : x + TILE] for y, x in origins]
        yield origins, network(torch.stack(tiles, out=room[: len(tiles)]))
    if image.is_cuda:
        torch.cuda.synchronize()


def ours(image: Tensor) -> Iterator[tuple[int, Tensor]]:
    """First row and quantised rows, as they are finished."""
    stitcher = SweepStitcher(_sweep(image), "gaussian", image.device)
    for origins, probability in bare(image):
        for finished in stitcher.add(origins, probability):
            yield finished.start, finished.probability


def blended(image: Tensor) -> None:
    """Blend and let go of the rows."""
    grid = _sweep(image).grids[0]
    band, below = TileBand(grid, "gaussian", image.device), dict(itertools.pairwise((*grid.starts[0], grid.shape[0])))
    for origins, probability in bare(image):
        for origin, tile in zip(origins, probability, strict=True):
            band.add(origin, tile)
        top, *across = origins[-1]
        if across[-1] == grid.starts[-1][-1]:
            for _ in band.take(top, below[top]):
                pass


def monai(image: Tensor) -> Tensor:
    """The whole map, ``float32 (Y, X)`` on the CPU; MONAI's own Gaussian raises small weights, so it gets ours."""
    along = window(TILE, "gaussian")
    weights = torch.from_numpy(np.outer(along, along)).float()
    found = sliding_window_inference(
        image[None, None], (TILE, TILE), BATCH, network, OVERLAP, mode="gaussian", roi_weight_map=weights
    )
    assert isinstance(found, Tensor)
    return found[0, 0].cpu()


def _run_nothing() -> None:
    image_of(SHAPE)


def _run_ours() -> None:
    for _ in ours(image_of(SHAPE)):
        pass


def _run_monai() -> None:
    monai(image_of(SHAPE))
