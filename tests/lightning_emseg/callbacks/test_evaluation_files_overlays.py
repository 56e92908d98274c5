"""Pictures show what all ranks have predicted, and reach loggers."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger

from data_modules.patches.splits import PatchSplit
from lightning_emseg.callbacks import Overlays, evaluation_files
from lightning_emseg.callbacks.evaluation_files import log_picture
from lightning_emseg.inference.stitching import StitchedRows
from tests.support import tiny
from tests.support.trainers import attach_rank

T = TypeVar("T")


class Ranks:
    """Stands in for :mod:`lightning_emseg.core.distributed`; the rank that comes last plays the first one."""

    def __init__(self, world: int) -> None:
        self.world = world
        self._sent: list[Any] = []

    def from_all(self, make: Callable[[], T]) -> list[T]:
        self._sent.append(make())
        return list(self._sent)

    def from_first(self, make: Callable[[], T]) -> T | None:
        return make() if len(self._sent) == self.world else None


@pytest.fixture
def ranks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ranks:
    found = Ranks(request.param)
    monkeypatch.setattr(evaluation_files, "from_all_ranks", found.from_all)
    monkeypatch.setattr(evaluation_files, "from_first_rank", found.from_first)
    return found


def trainer_of(folder: Path, loaders: Any, testing: bool = False) -> Any:
    return SimpleNamespace(
        sanity_checking=False,
        testing=testing,
        default_root_dir=folder,
        loggers=[],
        global_step=0,
        val_dataloaders=loaders,
        test_dataloaders=loaders,
    )


@pytest.mark.parametrize("ranks", [1, 2, 3, 12], indirect=True)
def test_tiles_drawn_are_first_of_global_order(tiny_store: Path, tmp_path: Path, ranks: Ranks) -> None:
    module = tiny.GreyModule()
    for rank in range(ranks.world):
        data = attach_rank(tiny.data_of(tiny_store, split=PatchSplit(train=4, val=9)), rank, ranks.world)
        data.setup("fit")
        (loader,) = data.val_dataloader()
        callback, trainer = Overlays(tiles=5), trainer_of(tmp_path, [loader])
        callback.on_validation_epoch_start(trainer, module)
        for number, batch in enumerate(loader):
            callback.on_validation_batch_end(trainer, module, batch["image"][:, 0], batch, number)
        callback.on_validation_end(trainer, module)
    picture = np.asarray(Image.open(tmp_path / "figures" / "validation.png"))
    alone = tiny.data_of(tiny_store, split=PatchSplit(train=4, val=9))
    alone.setup("fit")
    images = torch.cat([batch["image"][:, 0] for batch in alone.val_dataloader()[0]]).numpy()
    # Below a caption of 18 px and gaps of 6 px; the third panel is the probability.
    assert len(picture) == 5 * (64 + 18) + 4 * 6
    for number, image in enumerate(images[:5]):
        top = number * (64 + 18 + 6) + 18
        np.testing.assert_array_equal(picture[top : top + 64, :64, 0], image)
        np.testing.assert_array_equal(picture[top : top + 64, 140 : 140 + 64, 0], image)


@pytest.mark.parametrize("ranks", [1, 2, 3], indirect=True)
def test_rows_of_all_ranks_make_one_picture(tiny_store: Path, tmp_path: Path, ranks: Ranks) -> None:
    module, data = tiny.GreyModule(), tiny.data_of(tiny_store)
    data.setup("test")
    loader = data.test_dataloader()
    trainer, shapes = trainer_of(tmp_path, loader, testing=True), tiny.SPLITS["test"]
    for rank in range(ranks.world):
        callback = Overlays(tiles=2, side=100)
        callback.on_test_epoch_start(trainer, module)
        for mosaic, (height, width) in enumerate(shapes):
            values = torch.arange(height * width).reshape(height, width).remainder(251).to(torch.uint8)
            # Uneven parts, and of the second mosaic one rank has all.
            cuts = [0, 31, *[height - 20] * (ranks.world - 2), height] if ranks.world > 1 else [0, height]
            start, stop = cuts[rank : rank + 2] if mosaic != 1 else (0, height if rank == 0 else 0)
            rows = [StitchedRows(mosaic, start, values[start:stop], True)] if start < stop else []
            callback.on_test_batch_end(trainer, module, rows, next(iter(loader)), 0)
        callback.on_test_end(trainer, module)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["test-test-m0.png", "test-test-m1.png"]
    for mosaic, (height, width) in enumerate(shapes[:2]):
        picture = np.asarray(Image.open(tmp_path / "figures" / f"test-test-m{mosaic}.png"))
        top, across = max(0, (height - 100) // 2), min(100, width)
        expected = np.arange(height * width).reshape(height, width) % 251
        crop = expected[top : top + 100, (width - across) // 2 :][:, :across]
        left = 2 * (across + 6)
        np.testing.assert_array_equal(picture[18:, left : left + across, 0], crop)


def test_pictures_go_to_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    logger = TensorBoardLogger(tmp_path)
    log_picture(logger, "validation", np.zeros((8, 9, 3), np.uint8), 7)
    logger.experiment.flush()
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    (picture,) = events.Images("validation")
    assert (picture.step, picture.width, picture.height) == (7, 9, 8)


@pytest.mark.slow
def test_pictures_go_to_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytorch_lightning.loggers import WandbLogger

    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="test")
    log_picture(logger, "validation", np.zeros((8, 9, 3), np.uint8), 0)
    logger.experiment.finish()
    assert list(tmp_path.rglob("validation*.png"))
