"""The examples in the docstrings of the losses hold."""

import doctest
from types import ModuleType

import pytest

from lightning_emseg.losses import bce, dice, focal, tversky


@pytest.mark.parametrize("module", [bce, dice, focal, tversky])
def test_examples_in_the_docstrings(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
