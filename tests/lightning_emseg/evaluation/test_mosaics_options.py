"""Test-time augmentation and output that is not finite, through the Trainer."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data_modules.errors import UserError
from data_modules.geometry import Grid
from lightning_emseg.evaluation.mosaics import MosaicEvaluation
from lightning_emseg.inference.stitching import StitchedRows
from lightning_emseg.modules.mixin import SegmentationMixin
from tests.support import tiny

SHAPES = ((70, 90), (133, 97))
GRIDS = [Grid(shape, (32, 32), 0.5) for shape in SHAPES]


class Breaking(nn.Module):
    """Logits that fall with the grey value; where the image is white they are ``value``."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        self.calls = 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return (-tiny.SLOPE * image).masked_fill(image == 1, self.value)


class BreakingModule(SegmentationMixin):
    def __init__(self, value: float, **kwargs: Any) -> None:
        super().__init__(Breaking(value), in_channels=1, stride=1, **kwargs)


def _store(path: Path, white: list[tuple[int, int]]) -> dict[str, NDArray[np.uint8]]:
    """White pixels lie in the second mosaic alone."""
    images = {}
    for split, index in itertools.product(("train", "val", "test"), range(2)):
        image, mask = tiny.content(SHAPES[index], index)
        image = np.minimum(image, 250)
        for pixel in white if index == 1 else ():
            image[pixel] = 255
        tiny.write_sample(path, f"{split}/m{index}", image, mask)
        images[f"{split}/m{index}"] = image
    return images


def _origins(pixels: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    return [
        origin
        for origin in GRIDS[1]
        if any(all(at <= place < at + 32 for at, place in zip(origin, pixel, strict=True)) for pixel in pixels)
    ]


def _predict(module: SegmentationMixin, store: Path, folder: Path, **changes: Any) -> list[StitchedRows]:
    data = tiny.data_of(store, **{"tile_size": 32, "overlap": 0.5, "eval_batch_size": 3, **changes})
    found = tiny.quiet_trainer(folder).predict(module, data)
    assert found is not None
    return [rows for batch in found for rows in batch]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_stop_names_mosaic_and_tiles(tmp_path: Path, verb: str, value: float) -> None:
    _store(tmp_path / "s.zarr", [(132, 96)])  # the last row of the last tile
    data = tiny.data_of(tmp_path / "s.zarr", tile_size=32, overlap=0.5, eval_batch_size=3)
    module = BreakingModule(value, non_finite="stop" if verb == "predict" else "mark")
    (last,) = _origins([(132, 96)])
    with pytest.raises(UserError, match="NaN or infinite in 1 tile") as error:
        getattr(tiny.quiet_trainer(tmp_path), verb)(module, data)
    split = "val" if verb == "validate" else "test"
    assert str(error.value).startswith(f"{split}/m1: ")
    assert str(last) in str(error.value)
    assert "--model.non_finite mark" in str(error.value)
    assert ("scores always stop" in str(error.value)) == (verb != "predict")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_mark_leaves_out_the_footprints_and_says_so(tmp_path: Path, value: float) -> None:
    white = [(40, 50), (132, 3)]
    images = _store(tmp_path / "s.zarr", white)
    module = BreakingModule(value, non_finite="mark", blend="gaussian")
    with pytest.warns(UserWarning, match="test/m1: tiles with NaN or infinity are marked") as caught:
        found = _predict(module, tmp_path / "s.zarr", tmp_path)
    broken = _origins(white)
    assert len(broken) > 2
    assert sorted(origin for rows in found for origin in rows.failed) == broken
    for index, shape in enumerate(SHAPES):
        marked = np.zeros(shape, bool)
        for y, x in broken if index == 1 else ():
            marked[y : y + 32, x : x + 32] = True
        rows = [rows for rows in found if rows.mosaic == index]
        whole = torch.cat([part.probability for part in rows]).numpy()
        np.testing.assert_array_equal(whole, np.where(marked, 0, tiny.known_map(images[f"test/m{index}"])))
        invalid = [np.zeros(part.probability.shape, bool) if part.invalid is None else part.invalid for part in rows]
        np.testing.assert_array_equal(np.concatenate(invalid), marked)
    (evaluation,) = module._evaluations
    assert isinstance(evaluation, MosaicEvaluation)
    told = " ".join(str(warning.message) for warning in caught)
    assert all(f"{origin}" in told for origin in broken)
    assert {key: sorted(origins) for key, origins in evaluation.marked.items()} == {"test/m1": broken}


class Ramp(nn.Module):
    """Logits that grow along X as the network sees it, so that every symmetry gives another map; ``+ 0·image``."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.shapes.append(tuple(image.shape[-2:]))
        return 0 * image + torch.linspace(-3, 3, image.shape[-1])


class RampModule(SegmentationMixin):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(Ramp(), in_channels=1, stride=1, **kwargs)


@pytest.mark.parametrize(("tta", "turned"), [("flips", False), ("dihedral", True)])
def test_mean_over_symmetries_is_blended(tmp_path: Path, tta: Any, turned: bool) -> None:
    _store(tmp_path / "s.zarr", [])
    module = RampModule(tta=tta, blend="gaussian")
    found = _predict(module, tmp_path / "s.zarr", tmp_path, tile_size=[32, 48])
    assert isinstance(module.network, Ramp)
    assert set(module.network.shapes) == ({(32, 48), (48, 32)} if turned else {(32, 48)})
    along = {side: 1 / (1 + np.exp(-np.linspace(-3, 3, side))) for side in (32, 48)}
    mean = {side: (values + values[::-1]) / 2 for side, values in along.items()}
    tile = np.broadcast_to(mean[48], (32, 48))
    if turned:
        tile = (tile + mean[32][:, None]) / 2
    grid = Grid(SHAPES[0], (32, 48), 0.5)
    weights = np.multiply.outer(*(np.exp(-(((np.arange(s) - (s - 1) / 2) / (s / 8)) ** 2) / 2) for s in (32, 48)))
    total, norm = np.zeros(SHAPES[0]), np.zeros(SHAPES[0])
    for y, x in grid:
        total[y : y + 32, x : x + 48] += weights * tile
        norm[y : y + 32, x : x + 48] += weights
    whole = torch.cat([rows.probability for rows in found if rows.mosaic == 0]).numpy()
    assert np.abs(whole - 255 * total / norm).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("tta", ["none", "flips", "dihedral"])
def test_network_that_sees_single_pixels_scores_the_same(tiny_store: Path, tmp_path: Path, tta: Any) -> None:
    module = tiny.GreyModule(tta=tta)
    tiny.quiet_trainer(tmp_path).test(module, tiny.data_of(tiny_store), verbose=False)
    plain = tiny.GreyModule()
    tiny.quiet_trainer(tmp_path).test(plain, tiny.data_of(tiny_store), verbose=False)
    assert module.scores is not None
    assert plain.scores is not None
    assert module.scores.rows == plain.scores.rows


@pytest.mark.parametrize(("every", "factor"), [(0, 1), (1, 8)])
def test_training_and_cheap_tiles_are_seen_once(tmp_path: Path, every: int, factor: int) -> None:
    _store(tmp_path / "s.zarr", [])
    calls = []
    for tta in ("none", "dihedral"):
        module = BreakingModule(0.0, tta=tta)
        # Something to train, so that a training step is possible.
        module.loss = _Trained()
        data = tiny.data_of(tmp_path / "s.zarr", tile_size=32, val_tiles=2, full_validation_every=every)
        tiny.quiet_trainer(tmp_path).fit(module, data)
        assert isinstance(module.network, Breaking)
        calls.append(module.network.calls)
    cheap = 2 + 1  # two steps of two patches, one batch of two tiles
    swept = calls[0] - cheap
    assert (swept > 0) == bool(every)
    assert calls[1] == cheap + factor * swept


class _Trained(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        return self.weight * logits.mean()
