"""The picture of occlusion shows images, views and importance as they were given."""

import numpy as np
import pytest

from lightning_emseg.features.occlusion import Occlusion
from lightning_emseg.report.occlusion_plot import OcclusionRow, occlusion_figure


def found(seed: int) -> Occlusion:
    random = np.random.default_rng(seed)
    return Occlusion(0.9, np.zeros((3, 2), np.int64), random.random(3), random.random((70, 80), np.float32))


def row(with_view: bool) -> OcclusionRow:
    image, view = np.random.default_rng(0).integers(0, 256, (2, 70, 80), dtype=np.uint8)
    return OcclusionRow("here", image, view if with_view else None, {"one": found(1), "two": found(2)})


@pytest.mark.parametrize("with_view", [True, False])
def test_heat_maps_lie_over_the_image(with_view: bool) -> None:
    given = row(with_view)
    figure = occlusion_figure([given, given])
    cells, views = figure.axes[:-1], 1 + with_view
    assert len(cells) == 2 * (views + 2)
    np.testing.assert_array_equal(np.asarray(cells[0].images[0].get_array()), given.image)
    if with_view:
        np.testing.assert_array_equal(np.asarray(cells[1].images[0].get_array()), given.reference)
    for axes, (name, result) in zip(cells[views:], given.found.items(), strict=False):
        under, over = axes.images
        np.testing.assert_array_equal(np.asarray(under.get_array()), given.image)
        np.testing.assert_array_equal(np.asarray(over.get_array()), result.importance)
        assert axes.get_title().startswith(f"{name}\nsimilarity 0.900, drop ≤ {result.drops.max():.2g}")
    assert figure.axes[-1].get_ylabel() == "importance"
