"""Read → predict → blend → write of a 9,958 × 9,959 mosaic against the bare forward passes of its tiles.

``Trainer.predict`` runs once, from opening the store to closing the prediction. After every few batches it is held
for some bare passes of the network, so that both see the same minutes of the machine.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from data_modules.batch import Batch
from data_modules.geometry import Grid, Shape
from data_modules.mosaic import Mosaic
from lightning_emseg.callbacks import PredictionWriter
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.smp_model import LinkNet
from lightning_emseg.modules.unet import UNet
from tests.bench.harness import Row, store_of

SHAPE = (9958, 9959)
TILE, OVERLAP = 1024, 0.5


class BarePasses(pl.Callback):
    """Times bare passes between the batches of a prediction; comes after the callback that writes.

    Args:
        every: Batches between two stops.
        passes: Forward passes at each, of full batches.
    """

    def __init__(self, every: int, passes: int) -> None:
        self.every, self.passes = every, passes
        self.seconds: list[float] = []
        """Of one pass each."""
        self.held = 0.0
        """Seconds that the prediction was held, which are not its own."""
        self._full: Batch | None = None

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Let reading and writing in the background come to rest, at the prediction's cost; then time."""
        assert isinstance(pl_module, SegmentationMixin)
        self._full = self._full or batch
        if batch_idx % self.every:
            return
        self.held += _settle()
        start = time.perf_counter()
        image = (self._full["image"].float() - pl_module.grey_mean) / pl_module.grey_std
        for _ in range(self.passes):
            begin = time.perf_counter()
            with _precision(pl_module.device):
                pl_module.network(image)
            _synchronise()
            self.seconds.append(time.perf_counter() - begin)
        self.held += time.perf_counter() - start


def _settle(quiet: float = 0.02) -> float:
    """Wait until no thread of the process works any more; returns the seconds of waiting in which none did."""
    _synchronise()
    while True:
        start, busy = time.perf_counter(), time.process_time()
        time.sleep(quiet)
        if time.process_time() - busy < 0.2 * quiet:
            return time.perf_counter() - start


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _precision(device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def rows(scratch: Path) -> Iterator[Row]:
    """Time against bare passes, and megapixels per second."""
    yield from measure(scratch, SHAPE)


def measure(scratch: Path, shape: tuple[int, int]) -> Iterator[Row]:
    """As :func:`rows`, of a mosaic of ``shape`` px."""
    gpu = torch.cuda.is_available()
    torch.manual_seed(0)
    module: SegmentationMixin = UNet(encoder="resnet50") if gpu else LinkNet(encoder="resnet18")
    name = "U-Net/ResNet-50, bf16" if gpu else "LinkNet/ResNet-18, float32"
    module.blend = "gaussian"
    batch = 4
    store_of(scratch / "mosaic.zarr", shape, key="test/a", label=None)
    grid = Grid(shape, (TILE, TILE), OVERLAP)
    total, passes = _predict(module, scratch, batch, grid)
    bare = passes * len(grid) / batch
    megapixels = shape[0] * shape[1] / 1e6
    note = f"{name}; {len(grid)} tiles of {TILE}², {OVERLAP:.0%} overlap, Gaussian; {total:.0f} s"
    yield Row(
        "endtoend",
        f"predict {shape[0]:,} × {shape[1]:,}, store to store",
        megapixels / total,
        "MPx/s",
        f"bare forward passes: {bare:.0f} s",
        total / bare,
        "≤ 1.10 ×",
        total <= 1.1 * bare,
        note,
    )


def _predict(module: SegmentationMixin, scratch: Path, batch: int, grid: Grid) -> tuple[float, float]:
    """Seconds of the whole prediction, and of one bare pass of a full batch (mean)."""
    across: Shape = grid.starts[1]
    watch = BarePasses(every=-(-len(across) // batch), passes=2)
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if torch.cuda.is_available() else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=scratch,
        callbacks=[PredictionWriter(str(scratch / "prediction.zarr")), watch],
    )
    data = Mosaic(str(scratch / "mosaic.zarr"), tile_size=TILE, overlap=OVERLAP, eval_batch_size=batch)
    module.eval()
    with torch.inference_mode():
        module.to("cuda" if torch.cuda.is_available() else "cpu").network(
            torch.zeros(batch, 1, TILE, TILE, device=module.device)
        )
    start = time.perf_counter()
    trainer.predict(module, data, return_predictions=False)
    seconds = time.perf_counter() - start
    return seconds - watch.held, sum(watch.seconds) / len(watch.seconds)
