"""Architectures of segmentation_models_pytorch by name."""

import pytest

from data_modules.errors import UserError
from lightning_emseg.modules.smp_model import SmpModel
from tests.support import tiny


def test_unknown_architecture_of_smp_is_explained() -> None:
    with pytest.raises(UserError, match="Nonsense"):
        SmpModel("Nonsense", tiny.ENCODER)
    with pytest.raises(UserError, match="resnet17"):
        SmpModel("FPN", "resnet17")
