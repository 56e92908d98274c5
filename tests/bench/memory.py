"""Peak memory of ``lightning predict`` on mosaics of equal width and unequal height.

The network is one multiplication a pixel: what a network needs depends on its tiles alone, and the memory of this
project's own code is the question. Overlap, blending, reading, writing and pyramids are as in any other prediction.
"""

import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_emseg.modules.mixin import SegmentationMixin
from tests.bench.harness import Memory, Row, memory_of, store_of

TARGET = 1.2
WIDTH = 10_000
HEIGHTS = (10_000, 40_000)


class Scale(nn.Module):
    """One multiplication a pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(-4.0))

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the shape of ``image``."""
        logits: Tensor = image * self.factor
        return logits


class Pixelwise(SegmentationMixin):
    """The cheapest network that there is."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(Scale(), **kwargs)


def rows(scratch: Path) -> Iterator[Row]:
    """One row; the traces go to ``memory-trace.csv`` beside the tables."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    checkpoint(scratch / "pixelwise.ckpt")
    found = {height: predict(scratch, height) for height in HEIGHTS}
    save(found, scratch.parent / "memory-trace.csv")
    low, high = (found[height].peak_mib for height in HEIGHTS)
    idle = memory_of([sys.executable, "-c", "import lightning_emseg.trainer_cli"]).peak_mib
    yield Row(
        "memory",
        f"`lightning predict`, {HEIGHTS[1]:,} rows × {WIDTH:,} columns, peak resident memory",
        high,
        "MiB",
        f"{HEIGHTS[0]:,} rows × {WIDTH:,} columns ({low:.0f} MiB)",
        high / low,
        f"≤ {TARGET} ×",
        high / low <= TARGET,
        f"tiles of 1024², overlap 0.5, a network of one multiplication a pixel; {idle:.0f} MiB are the interpreter and "
        "its packages; trace in memory-trace.csv",
    )


def checkpoint(path: Path) -> None:
    """Save the network as it is."""
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(Pixelwise())
    trainer.save_checkpoint(path)


def predict(scratch: Path, height: int) -> Memory:
    """Memory of the command on a mosaic of this height."""
    store, out = scratch / f"{height}.zarr", scratch / f"{height}-predicted.zarr"
    store_of(store, (height, WIDTH), "test/a", label=None)
    command = [sys.executable, "-m", "lightning_emseg", "predict"]
    model = ["--model", "tests.bench.memory.Pixelwise", "--ckpt_path", str(scratch / "pixelwise.ckpt")]
    data = ["--data", "Mosaic", "--data.store", str(store), "--data.tile_size", "1024", "--data.overlap", "0.5"]
    run = ["--trainer.accelerator", "cpu", "--trainer.default_root_dir", str(scratch / "run")]
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
    memory = memory_of([*command, *model, *data, *run, *quiet, "--writer.out", str(out)])
    for folder in (store, out):
        shutil.rmtree(folder)
    return memory


def save(found: dict[int, Memory], path: Path) -> None:
    """Write the traces: height of the mosaic in px, seconds since the start, resident MiB."""
    lines = ["height,seconds,resident_mib"]
    for height, memory in found.items():
        lines += [f"{height},{seconds:.2f},{mib:.1f}" for seconds, mib in memory.trace]
    path.write_text("\n".join(lines) + "\n")
