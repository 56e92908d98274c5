"""How the cost of a prediction grows with the number of mosaics, the overlap and the tile size.

Ours is everything between opening the store and the finished prediction store. The alternative is the network alone, on
as many tiles in the same batches.
"""

import itertools
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytorch_lightning as pl
import torch

from data_modules.geometry import Grid, RowSpan, Sweep
from data_modules.mosaic import Mosaic
from lightning_emseg.callbacks import PredictionWriter
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.smp_model import LinkNet
from tests.bench.harness import Row, interleave, median, store_of

SIDE = 1536
BATCH = 4
REPEATS = 3
AGAINST = "bare forward passes of the same tiles"


def rows(scratch: Path) -> Iterator[Row]:
    """One row for each setting."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    module = LinkNet().eval()
    for count in (1, 2, 4, 8):
        yield measure(scratch, module, f"mosaics of {SIDE // 2}² px: {count}", count, SIDE // 2, 256, 0.0)
    for overlap in (0.0, 0.25, 0.5, 0.75):
        yield measure(scratch, module, f"overlap {overlap:g}, {SIDE}² px, tiles of 512²", 1, SIDE, 512, overlap)
    for tile in (256, 512, 1024):
        yield measure(scratch, module, f"tiles of {tile}², {SIDE}² px, overlap 0.25", 1, SIDE, tile, 0.25)


def measure(
    scratch: Path, module: SegmentationMixin, what: str, count: int, side: int, tile: int, overlap: float
) -> Row:
    """Predict ``count`` mosaics of ``side`` px, and pass as many tiles through the network alone."""
    store = scratch / "s.zarr"
    for index in range(count):
        store_of(store, (side, side), f"test/{index}", label=None, seed=index)
    grid = Grid((side, side), (tile, tile), overlap)
    sizes = [len(origins) for origins in Sweep((grid,), (RowSpan(0, 0, side),), BATCH).runs(RowSpan(0, 0, side))]
    number = itertools.count()
    candidates: dict[str, Callable[[], object]] = {
        "ours": lambda: predict(module, store, scratch / f"{next(number)}.zarr", tile, overlap),
        "bare": lambda: forward(module, sizes * count, tile),
    }
    seconds = interleave(candidates, REPEATS)
    ours, bare = median(seconds["ours"]), median(seconds["bare"])
    shutil.rmtree(store)
    megapixels = count * side * side / 1e6
    return Row(
        "scaling",
        f"predict, {what}",
        ours / megapixels,
        "s/MPx",
        AGAINST,
        ours / bare,
        note=f"LinkNet/ResNet-18, {count * len(grid)} tiles, {ours:.2f} s against {bare:.2f} s",
    )


def predict(module: SegmentationMixin, store: Path, out: Path, tile: int, overlap: float) -> None:
    """Read, predict, blend and write."""
    data = Mosaic(str(store), tile_size=tile, overlap=overlap, eval_batch_size=BATCH)
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[PredictionWriter(str(out))],
    )
    trainer.predict(module, data, return_predictions=False)
    shutil.rmtree(out)


@torch.inference_mode()
def forward(module: SegmentationMixin, sizes: list[int], tile: int) -> None:
    """The network on noise, in batches of these sizes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = module.network.to(device).eval()
    batches = {size: torch.randn(size, module.in_channels, tile, tile, device=device) for size in set(sizes)}
    for size in sizes:
        network(batches[size])
    if device.type == "cuda":
        torch.cuda.synchronize(device)
