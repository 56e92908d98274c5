"""Sides of windows of images and volumes."""

import pytest
from torch import nn

from data_modules.errors import UserError
from lightning_emseg.attribution.sides import checked, refuse_planes, resized_sides, strides_of, window_sides
from lightning_emseg.networks.volumes import CleftNet


def test_volume_networks_state_strides_by_axis() -> None:
    network = CleftNet(patch=(8, 32, 32), widths=(8, 8, 16), voxel_nm=(40.0, 4.0, 4.0))
    assert strides_of(network, 4, 3) == (1, 4, 4)
    assert strides_of(nn.Conv2d(1, 1, 3, stride=2), 16, 2) == (16, 16)
    assert strides_of(nn.Identity(), 16, 3) == (16, 16, 16)


def test_one_side_is_limited_by_the_patch() -> None:
    assert window_sides(512, {"patch": [8, 256, 256]}, 3) == (8, 256, 256)
    assert window_sides(64, {"patch": (8, 256, 256)}, 3) == (8, 64, 64)
    assert window_sides([16, 512, 512], {"patch": (8, 256, 256)}, 3) == (16, 512, 512)
    assert window_sides(64, {}, 3) == (64, 64, 64)
    assert window_sides(512, {"patch": 16}, 2) == (512, 512)


def test_one_side_keeps_the_number_of_sections() -> None:
    assert resized_sides(64, (8, 128, 96)) == (8, 64, 64)
    assert resized_sides([4, 64, 48], (8, 128, 96)) == (4, 64, 48)


def test_unsuitable_sides_are_refused_by_option() -> None:
    assert checked("window", 8, (8, 8), 2) == (8, 8)
    with pytest.raises(UserError, match=r"--window \[8, 8\] has to be one side or 3 sides"):
        checked("window", [8, 8], (8, 8), 3)
    with pytest.raises(UserError, match=r"--resize 30 is no multiple of the network's 4 px: take 32"):
        checked("resize", 30, (7, 30, 30), 3, (1, 4, 4))


def test_planes_of_volumes_are_refused() -> None:
    refuse_planes(2, 2)
    refuse_planes(3, 3)
    with pytest.raises(UserError, match="plane by plane"):
        refuse_planes(2, 3)
