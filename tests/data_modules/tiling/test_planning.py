"""Planes and resolution follow from the pixel size and the limit."""

import numpy as np
import pytest

from data_modules.images.image import Header
from data_modules.tiling.planning import Settings, plan_source


def header(shape: tuple[int, int, int], size: tuple[float, ...] | None = None, frames: bool = False) -> Header:
    return Header("", shape, np.dtype(np.uint8), size, frames=frames)


@pytest.mark.parametrize(
    ("found", "stated", "planes"),
    [
        (header((300, 300, 300), (8.0, 8.0, 8.0)), None, 3),
        (header((300, 300, 300), (9.5, 8.0, 8.0)), None, 3),
        (header((300, 300, 300), (6.5, 8.0, 8.0)), None, 3),
        (header((300, 300, 300), (9.6, 8.0, 8.0)), None, 1),
        (header((300, 300, 300), (6.4, 8.0, 8.0)), None, 1),
        (header((300, 300, 300)), None, 1),
        (header((300, 300, 300)), (8.0,), 1),
        (header((300, 300, 300)), (8.0, 8.0, 8.0), 3),
        (header((300, 300, 300), (8.0, 8.0, 8.0)), (40.0, 4.0, 4.0), 1),
        (header((1, 300, 300), (8.0, 8.0)), (8.0, 8.0, 8.0), 1),
        (header((300, 300, 300), None, frames=True), (8.0, 8.0, 8.0), 1),
    ],
)
def test_three_planes_need_z_within_a_fifth(found: Header, stated: tuple[float, ...] | None, planes: int) -> None:
    assert len(plan_source(found, stated, Settings()).plan.planes) == planes
    assert len(plan_source(found, None, Settings(pixel_size_nm=stated)).plan.planes) == planes


def test_large_isotropic_volumes_are_shrunk_along_z_too() -> None:
    planned = plan_source(header((10, 300, 300), (8.0, 8.0, 8.0)), None, Settings(limit_px=300_000))
    assert (planned.plan.shape, planned.pixel_size_nm) == ((5, 150, 150), (16, 16, 16))
    planned = plan_source(header((10, 300, 300), (40.0, 8.0, 8.0)), None, Settings(limit_px=300_000))
    assert (planned.plan.shape, planned.pixel_size_nm) == ((10, 150, 150), (40, 16, 16))
    assert plan_source(header((1, 70_000, 80_000)), None, Settings()).plan.shape == (1, 35_000, 40_000)
    assert plan_source(header((1, 70_000, 71_000)), None, Settings()).plan.shape == (1, 70_000, 71_000)
