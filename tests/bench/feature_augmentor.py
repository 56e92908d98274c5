"""Memory and time of one feature augmentor at the paper's first level, and of smaller ones on the way there.

Each runs in a process of its own, on one thread. A size that would take longer than ten minutes, by the pairs of keys
and queries of the size before, is extrapolated instead: time in proportion to the pairs, memory to the voxels.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import torch

from lightning_emseg.networks.volumes.cleftnet import make_augmentor
from tests.bench.harness import Row, peak_of

CHANNELS = 32
PATCHES = ((8, 32, 32), (8, 64, 64), (8, 128, 128), (8, 256, 256))
FACTORS = (2, 2, 2)
LONGEST_S = 600.0
MIB = 2**20


def rows(scratch: Path) -> Iterator[Row]:
    """A row for every patch, forwards and with gradients; the ratio is the memory of the whole matrix to ours."""
    idle = peak_of(rest).peak_mib
    for backward in (False, True):
        before: tuple[float, float, int] | None = None
        for patch in PATCHES:
            keys = patch[0] * patch[1] * patch[2]
            pairs = keys * keys // 8
            growth = 1 if before is None else pairs / before[2]
            extrapolated = before is not None and before[0] * growth > LONGEST_S
            if before is not None and extrapolated:
                seconds, mib = before[0] * growth, before[1] * growth**0.5
            else:
                out = scratch / f"{keys}-{backward}"
                mib = peak_of(measure, patch, backward, out, interval=0.01).peak_mib - idle
                seconds = float(out.read_text())
            before = (seconds, mib, pairs)
            yield _row(patch, backward, seconds, mib, pairs, extrapolated)


def _row(
    patch: tuple[int, int, int], backward: bool, seconds: float, mib: float, pairs: int, extrapolated: bool
) -> Row:
    matrix = 4 * pairs / MIB
    depth, height, width = patch
    voxels = depth * height * width
    return Row(
        "feature_augmentor",
        f"{'forwards and backwards' if backward else 'forwards'}, {CHANNELS} × {depth} × {height} × {width}, peak",
        mib,
        "MiB",
        f"the matrix alone ({matrix:,.0f} MiB)",
        matrix / mib,
        note=f"{'extrapolated; ' if extrapolated else ''}{voxels:,} keys, {voxels // 8:,} queries, {seconds:.3g} s of "
        f"processor time, {1e9 * seconds / pairs:.2f} ns a pair; without the interpreter and its packages",
    )


def rest() -> None:
    """Do nothing, in a process that has imported the same."""


def measure(patch: tuple[int, int, int], backward: bool, out: Path) -> None:
    """Run one augmentor once and write its seconds of processor time, which other processes do not add to."""
    torch.set_num_threads(1)
    z, y, x = (side // factor for side, factor in zip(patch, FACTORS, strict=True))
    augmentor = make_augmentor(CHANNELS, "down", (z, y, x), FACTORS)
    volume = torch.randn(1, CHANNELS, *patch, requires_grad=backward)
    start = time.process_time()
    with torch.set_grad_enabled(backward):
        found = augmentor(volume)
    if backward:
        found.sum().backward()
    out.write_text(str(time.process_time() - start))
