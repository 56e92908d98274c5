"""Correlation of fingerprints against numpy."""

import numpy as np

from lightning_emseg.curation.correlation import correlation, fingerprint
from tests.support.tile_sets import cells


def test_correlation_ignores_brightness() -> None:
    one, brighter = cells(1), (cells(1) * 0.7 + 60).astype(np.uint8)
    assert correlation(fingerprint(one), fingerprint(one)) > 0.9999
    assert correlation(fingerprint(one), fingerprint(brighter)) > 0.999
    assert correlation(fingerprint(one), fingerprint(255 - one)) < -0.999
    assert abs(correlation(fingerprint(one), fingerprint(cells(2)))) < 0.6
    blank = fingerprint(np.full((200, 150), 13, np.uint8))
    assert correlation(blank, blank) == 1
    assert correlation(blank, fingerprint(one)) == 0


def test_correlation_matches_numpy_on_block_means() -> None:
    one, other = cells(3).astype(np.float64), cells(4).astype(np.float64)
    means = [tile.reshape(56, 4, 56, 4).mean((1, 3)).ravel() for tile in (one, other)]
    expected = np.corrcoef(*means)[0, 1]
    found = correlation(fingerprint(cells(3)), fingerprint(cells(4)))
    assert abs(found - expected) < 1e-4
