"""Mosaics and a study of a linear network on them, for the tests of offline studies."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.attribution.integrated_gradients import IntegratedGradients
from lightning_emseg.attribution.measurement import StudySetting
from lightning_emseg.attribution.method import BoundMethod
from lightning_emseg.attribution.network import detached_copy
from lightning_emseg.attribution.sampling import choose_pixels, make_tiles
from lightning_emseg.attribution.study import CURVE, run_study
from lightning_emseg.attribution.study_store import make_plan, write_plan
from tests.support import linear_network

CPU = torch.device("cpu")
SEED = 5


def make_views(folder: Path) -> list[MosaicView]:
    """Mosaics that no window of 32 px divides, in one or both directions."""
    store = linear_network.make_store(folder / "s.zarr", {"a": (70, 90), "b": (40, 61), "c": (64, 128)})
    return [MosaicView.of(sample, "membrane") for sample in MosaicStore(store).samples("test")]


class Study:
    """A study of the linear network on the mosaics, whose windows have 48 px."""

    def __init__(self, views: list[MosaicView], folder: Path, check: int = 6, **options: Any) -> None:
        module = linear_network.LinearModule()
        self.network = detached_copy(module.network, 127.5, 127.5)
        self.setting, self.folder = StudySetting(views, "zero", CURVE, SEED), folder
        tiles = make_tiles(views, (48, 48), 0, 1, False)
        chosen = choose_pixels(self.network, self.setting, tiles, 128, CPU, 60)
        self.method = IntegratedGradients(steps=4, baseline="zero", **options)
        self.plan = make_plan({"thresholds": CURVE, "method": "ig"}, chosen, check)
        folder.mkdir()
        write_plan(folder, self.plan, views)

    def bound(self) -> BoundMethod:
        return self.method.bind(self.network, 1)

    def run(self) -> None:
        run_study(self.plan, self.bound(), self.setting, self.folder, CPU)

    def arrays(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
        root = zarr.open_group(self.folder / "fields.zarr", mode="r")
        return {f"{name}/{key}": np.asarray(array[:]) for name, group in root.groups() for key, array in group.arrays()}
