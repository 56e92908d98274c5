"""Three mosaics for the tests of the offline study beside this file."""

from pathlib import Path

import torch

from data_modules.store import MosaicStore, MosaicView
from tests.support import linear_network

CPU = torch.device("cpu")
SEED = 5


def make_views(folder: Path) -> list[MosaicView]:
    """Mosaics that no window of 32 px divides, in one or both directions."""
    store = linear_network.make_store(folder / "s.zarr", {"a": (70, 90), "b": (40, 61), "c": (64, 128)})
    return [MosaicView.of(sample, "membrane") for sample in MosaicStore(store).samples("test")]
