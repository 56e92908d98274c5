"""Random 1024² reads: this project's reader against zarr-python, interleaved in one run.

Run with ``make bench``. Prints a Markdown table and writes it with the raw numbers to ``runs/bench/``.
"""

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import zarr

from data_modules.store import MosaicStore, read
from data_modules.synthesize import synthesize

PATCH = 1024
REPEATS = 60
OUT = Path("runs/bench")


def main() -> None:
    """Measure and report."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "mosaic.zarr"
        synthesize(store, train=["8192x8192"], val=[], test=[])
        sample = MosaicStore(store).samples("train")[0]
        image, mask = sample.image, sample.label("membrane")
        pixels = read(image, [slice(0, side) for side in image.shape])
        foreign = zarr.create_array(
            store=Path(folder) / "plain.zarr", shape=pixels.shape, dtype="uint8", chunks=(PATCH, PATCH)
        )
        foreign[:] = pixels
        own_image, own_mask = zarr.open_array(image.path, mode="r"), zarr.open_array(mask.path, mode="r")
        readers: dict[str, Callable[[tuple[slice, slice]], object]] = {
            "image, this project": lambda region: read(image, region),
            "image, zarr-python, same store": lambda region: own_image[region],
            "image, zarr-python, unsharded 1024² chunks, default compressor": lambda region: foreign[region],
            "mask, this project": lambda region: read(mask, region),
            "mask, zarr-python, same store": lambda region: own_mask[region],
        }
        report(interleaved(readers, image.shape))


def interleaved(
    readers: dict[str, Callable[[tuple[slice, slice]], object]], shape: tuple[int, ...]
) -> dict[str, float]:
    """Median milliseconds by reader; in every round each reader reads the same random patch."""
    random = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(REPEATS):
        y, x = (int(random.integers(side - PATCH)) for side in shape)
        for name, reader in readers.items():
            start = time.perf_counter()
            reader((slice(y, y + PATCH), slice(x, x + PATCH)))
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values[5:]) for name, values in times.items()}


def report(medians: dict[str, float]) -> None:
    """Print the table and keep it."""
    lines = ["| random 1024² read | median ms | ratio to this project |", "|---|---|---|"]
    for name, value in medians.items():
        own = medians[name.split(",")[0] + ", this project"]
        lines.append(f"| {name} | {value:.2f} | {value / own:.1f} × |")
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in ("zarr", "tensorstore", "numpy"))
    lines.append(f"\n{platform.machine()}, Python {platform.python_version()}, {versions}")
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "reader.md").write_text("\n".join(lines) + "\n")
    (OUT / "reader.json").write_text(json.dumps(medians, indent=2) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
