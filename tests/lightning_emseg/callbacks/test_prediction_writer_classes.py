"""Predicted classes on disk, of a network whose answer is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data_modules.geometry import Grid
from data_modules.mosaic import Mosaic
from data_modules.store import MosaicStore
from lightning_emseg.callbacks import PredictionWriter
from lightning_emseg.modules.mixin import SegmentationMixin
from tests.support import class_runs, tiny
from tests.support.class_runs import NAMES
from tests.support.tiny import Pixels

SIZES: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "test/image": ((100, 90), (4.0, 4.0)),
    "test/small": ((20, 70), (4.0, 4.0)),
}
BRIGHT = 250
"""Grey level from which on the network's answer may be broken."""


class Bands(nn.Module):
    """Dark pixels are mito, bright ones golgi, with logits that fall by the grey level alone."""

    def __init__(self, broken: float) -> None:
        super().__init__()
        self.slope, self.broken = nn.Parameter(torch.tensor(4.0)), broken

    def forward(self, image: Tensor) -> Tensor:
        logits = torch.cat([0.5 * torch.ones_like(image), -self.slope * image, self.slope * image], dim=1)
        logits[:, 2:][image * 127.5 + 127.5 >= BRIGHT] += self.broken
        return logits


class BandsModule(SegmentationMixin):
    def __init__(self, broken: float = 0.0, **kwargs: Any) -> None:
        super().__init__(Bands(broken), in_channels=1, stride=1, classes=list(NAMES), **kwargs)


def expected(image: Pixels) -> tuple[Any, Any]:
    """Probability of anything but background, 0–255, and the most probable class, in double precision."""
    x = (image.astype(np.float64) - 127.5) / 127.5
    shares = np.exp(np.stack([np.full_like(x, 0.5), -4 * x, 4 * x]))
    shares /= shares.sum(axis=0)
    return 255 * (1 - shares[0]), shares.argmax(axis=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bands") / "s.zarr"
    class_runs.make_store(path, SIZES)
    return path


def predict(store: Path, folder: Path, module: BandsModule, **changes: Any) -> Path:
    data = Mosaic(str(store), "organelles", classes=list(NAMES), patch_size=32, batch_size=3, seed=1, **changes)
    out = folder / "p.zarr"
    trainer = tiny.quiet_trainer(folder, callbacks=[PredictionWriter(str(out))])
    trainer.predict(module, data, return_predictions=False)
    return out


@pytest.mark.parametrize("options", [{}, {"blend": "gaussian"}, {"tta": "dihedral", "blend": "cosine"}])
def test_masks_and_probabilities_of_known_bands(store: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    out = predict(store, tmp_path, BandsModule(**options))
    for key, (shape, _) in SIZES.items():
        levels, classes = expected(class_runs.predicted(store, key)[0])
        probability, mask = class_runs.predicted(out, key)
        assert probability.shape == shape
        np.testing.assert_array_equal(mask, classes)
        assert np.abs(probability - levels).max() < 0.51
        assert set(np.unique(mask)) == {0, 1, 2}


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_pixels_without_finite_value_are_ignored(store: Path, tmp_path: Path, broken: float) -> None:
    with pytest.warns(UserWarning, match="tiles with NaN or infinity are marked"):
        out = predict(store, tmp_path, BandsModule(broken, non_finite="mark"), tile_size=8, overlap=0.0)
    marked = 0
    for key, (shape, _) in SIZES.items():
        image = class_runs.predicted(store, key)[0]
        levels, classes = expected(image)
        probability, mask = class_runs.predicted(out, key)
        # Whole tiles, those with a bright pixel.
        bad = np.zeros(shape, bool)
        for y, x in Grid(shape, (8, 8)):
            bad[y : y + 8, x : x + 8] |= (image[y : y + 8, x : x + 8] >= BRIGHT).any()
        np.testing.assert_array_equal(mask == 255, bad)
        assert not probability[bad].any()
        np.testing.assert_array_equal(mask[~bad], classes[~bad])
        assert np.abs(probability - levels)[~bad].max() < 0.51
        marked += int(bad.sum())
        info = MosaicStore(out).sample(key).labels["organelles"].info
        assert info is not None
        assert info.counts.get(255, 0) == bad.sum()
    assert 0 < marked < 9000


def test_a_certain_zero_of_minus_infinity_stops_scores(store: Path, tmp_path: Path) -> None:
    data = Mosaic(str(store), "organelles", classes=list(NAMES), patch_size=32, batch_size=3, test_split="test", seed=1)
    trainer = tiny.quiet_trainer(tmp_path)
    with pytest.raises(ValueError, match="the network's output is NaN or infinite in"):
        trainer.test(BandsModule(-float("inf")), data, verbose=False)
