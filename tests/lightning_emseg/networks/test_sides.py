"""Sides that networks can take."""

import pytest
import torch

from data_modules.errors import UserError
from lightning_emseg.networks.sides import check_sides


def test_empty_sides_are_refused() -> None:
    with pytest.raises(UserError, match="but got 0 × 16 × 16"):
        check_sides(torch.zeros(1, 1, 0, 16, 16), (8, 16, 16), "It")
