"""Uniform areas of tiles whose answer is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lightning_emseg.curation.uniform import WINDOW_PX, uniform_share


def noise(std: float = 20) -> NDArray[np.uint8]:
    random = np.random.default_rng(0)
    return np.clip(np.rint(random.normal(120, std, (224, 224))), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("uniform", [0, 50, 180, 224])
def test_uniform_columns_count_up_to_half_window(uniform: int) -> None:
    tile = noise()
    tile[:, :uniform] = 90
    lost = WINDOW_PX // 2 if 0 < uniform < 224 else 0
    assert uniform_share(tile, 2.0) == pytest.approx((uniform - lost) / 224, abs=1e-3)


def test_neighbourhoods_are_compared_by_their_deviation() -> None:
    tile = noise(std=5)
    assert uniform_share(tile, 3.0) == 0
    assert uniform_share(tile, 8.0) == 1
    assert uniform_share(np.full((112, 112), 7, np.uint8), 0.1) == 1
    # 0 is no rule: nothing deviates by less.
    assert uniform_share(np.full((112, 112), 7, np.uint8), 0.0) == 0
