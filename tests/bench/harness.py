"""What the benchmarks share: rows, interleaved timing, memory of whole processes, and data that is quick to make."""

import functools
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from data_modules.store import LabelInfo, MosaicStore, Sample, SampleWriter
from tests.support import ROOT

Pixels = NDArray[np.uint8]
_PERIOD = 1024
_BAND = 2048


@dataclass(frozen=True)
class Row:
    """One measured figure.

    Attributes:
        case: Module of the benchmark.
        what: What was measured.
        value: Median.
        unit: ``ms``, ``s``, ``MiB``, ``MPx/s``, ``patches/s`` …
        against: The named alternative, measured in the same run.
        ratio: In the sense of ``target``.
        target: E.g. ``≥ 5 ×``.
        met: Whether the target is reached; ``None`` where there is none.
        note: What a reader has to know beside it.
    """

    case: str
    what: str
    value: float
    unit: str
    against: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    note: str = ""


def interleave(candidates: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 1) -> dict[str, list[float]]:
    """Time candidates that take turns, so that a slow minute of the machine is shared by all of them.

    Args:
        candidates: Called without arguments, by name.
        repeats: Timed calls of each.
        warmup: Calls of each before that are not timed.

    Returns:
        Seconds per call by name. Every round begins with another candidate.
    """
    names = list(candidates)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warmup + repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            candidates[name]()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median(seconds: Sequence[float]) -> float:
    """Median of timings."""
    return statistics.median(seconds)


@dataclass(frozen=True)
class Memory:
    """Resident memory of one process, its threads included and its children not.

    Attributes:
        peak_mib: Highest.
        trace: ``(seconds since the start, MiB)``, sampled.
    """

    peak_mib: float
    trace: tuple[tuple[float, float], ...]


def peak_of(function: Callable[..., object], *arguments: object, interval: float = 0.05) -> Memory:
    """Memory of a function of a module's top level, run in a fresh process of its own.

    Raises:
        RuntimeError: if the function failed.
    """
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    assert process.pid is not None
    memory = _watch(process.pid, process.is_alive, interval)
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{function.__name__} ended with status {process.exitcode}")
    return memory


def memory_of(command: Sequence[str], interval: float = 0.05) -> Memory:
    """Memory of a command, whose output is kept back.

    Raises:
        RuntimeError: if the command failed, with the end of its output.
    """
    with tempfile.TemporaryFile("w+") as output:
        # Commands may name classes of the benchmarks.
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, stdout=output, stderr=output, env=environment) as process:
            memory = _watch(process.pid, lambda: process.poll() is None, interval)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}: {output.read()[-2000:]}")
    return memory


def _watch(pid: int, alive: Callable[[], bool], interval: float) -> Memory:
    start, peak = time.perf_counter(), 0.0
    trace = []
    while alive():
        try:
            current, highest = _resident(pid)
        except (OSError, KeyError):  # it has just ended
            break
        peak = max(peak, highest)
        trace.append((time.perf_counter() - start, current))
        time.sleep(interval)
    return Memory(peak, tuple(trace))


def _resident(pid: int) -> tuple[float, float]:
    # Not `ru_maxrss`: through exec, Linux carries over the parent's highest value to a new process.
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return int(fields["VmRSS"]) / 1024, int(fields["VmHWM"]) / 1024


@functools.cache
def _field(seed: int) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(size=(_PERIOD, _PERIOD)).astype(np.float32)
    field: NDArray[np.float32] = gaussian_filter(noise, 12, mode="wrap")
    field /= field.std()
    return field


def _tiled(pixels: Pixels, shape: tuple[int, int], first: int) -> Pixels:
    rows = np.arange(first, first + shape[0]) % _PERIOD
    return np.tile(pixels[rows], (1, -(-shape[1] // _PERIOD)))[:, : shape[1]]


def synthetic_image(shape: tuple[int, int], seed: int = 0, first: int = 0) -> Pixels:
    """Grey cells with dark membranes under noise that compresses as little as an electron micrograph's.

    Args:
        shape: ``(Y, X)`` in px.
        seed: Of membranes and noise.
        first: Row at which the image begins; membranes repeat with a period, noise does not.

    Returns:
        ``uint8`` of ``shape``.
    """
    grey = (80 - 50 * np.exp(-((_field(seed) / 0.15) ** 2))).astype(np.uint8)
    noise = np.frombuffer(np.random.default_rng((seed, first)).bytes(shape[0] * shape[1]), np.uint8).reshape(shape)
    image: Pixels = _tiled(grey, shape, first) + (noise >> 1)
    return image


def synthetic_mask(shape: tuple[int, int], seed: int = 0, first: int = 0) -> Pixels:
    """Membranes of :func:`synthetic_image` with the same arguments: ``uint8`` of ``shape``, 0 or 1."""
    return _tiled((np.abs(_field(seed)) < 0.15).astype(np.uint8), shape, first)


def store_of(
    path: Path, shape: tuple[int, int], key: str = "train/a", label: str | None = "membrane", seed: int = 0
) -> Sample:
    """Write one synthetic sample, a band of rows at a time.

    Args:
        path: Of the store; a store that exists is added to.
        shape: ``(Y, X)`` in px.
        key: ``<split>/<sample>``.
        label: Name of its binary label, or none.
        seed: Of the pixels.
    """
    split, name = key.split("/")
    with SampleWriter(path, split, name, shape, (4.0, 4.0)) as sample:
        mask = None if label is None else sample.add_label(label, LabelInfo("binary"))
        for first, rows in _bands(shape):
            sample.image.write(synthetic_image(rows, seed, first))
            if mask is not None:
                mask.write(synthetic_mask(rows, seed, first))
    return MosaicStore(path).sample(key)


def _bands(shape: tuple[int, int]) -> Iterator[tuple[int, tuple[int, int]]]:
    for first in range(0, shape[0], _BAND):
        yield first, (min(_BAND, shape[0] - first), shape[1])


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
