"""Architectures of segmentation_models_pytorch and what they share."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.modules.casenet import CASENet
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.smp_model import LinkNet, SmpModel, with_extras
from lightning_emseg.modules.unet import UNet
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import tiny

SCSE = "blocks.4.attention1.attention."
ARCHITECTURES: dict[str, tuple[Callable[[], SegmentationMixin], str | None]] = {
    # With a part of the names of the weights that are frozen.
    "UNet": (lambda: UNet(tiny.ENCODER), None),
    "UNet frozen": (lambda: UNet(tiny.ENCODER, freeze_encoder=True), "encoder."),
    "UNet scse": (lambda: UNet(tiny.ENCODER, decoder_attention="scse"), SCSE),
    "UNet all": (lambda: UNet(tiny.ENCODER, decoder_attention="scse", hypercolumns=True, scales=[0.5, 1.0]), SCSE),
    "UNet efficientnet": (lambda: UNet("efficientnet-b0"), "encoder._"),
    "LinkNet": (lambda: LinkNet(tiny.ENCODER), None),
    "LinkNet hypercolumns": (lambda: LinkNet(tiny.ENCODER, hypercolumns=True, scales=[0.5, 1.0]), None),
    "CASENet": (lambda: CASENet(tiny.TIMM_ENCODER, fusion_batch_norm=True), None),
    "VanillaUNet": (lambda: VanillaUNet(base_channels=4), None),
    "FPN": (lambda: SmpModel("FPN", tiny.ENCODER), None),
    "PSPNet": (lambda: SmpModel("PSPNet", "resnet18"), "encoder.layer"),
    "PAN": (lambda: SmpModel("PAN", tiny.ENCODER), None),
    "UnetPlusPlus scse": (
        lambda: SmpModel("UnetPlusPlus", tiny.ENCODER, options={"decoder_attention_type": "scse"}),
        "blocks.x_0_4.attention1.attention.",
    ),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_without_gradient_are_frozen_and_unused(name: str) -> None:
    build, part = ARCHITECTURES[name]
    torch.manual_seed(0)
    module = build()
    image = torch.rand(2, 1, 128, 128) * 255
    module.train()
    loss = module.loss(module(image), (image[:, 0] < 100).to(torch.uint8))
    loss.backward()
    assert [key for key, weight in module.named_parameters() if weight.requires_grad and weight.grad is None] == []
    frozen = {key: weight for key, weight in module.named_parameters() if not weight.requires_grad}
    assert bool(frozen) == (part is not None)
    assert all(part is not None and part in key for key in frozen)
    if name == "UNet frozen":
        return
    module.eval()
    with torch.no_grad():
        before = module(image)
        for weight in frozen.values():
            weight.fill_(math.nan)
        assert torch.equal(module(image), before)


class OfOneSize(nn.Module):
    """Takes images of one size alone, as some transformers do."""

    requires_divisible_input_shape = False

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-1] != 224:
            raise ValueError("not 224 px")
        logits: Tensor = self.layer(image)
        return logits


def test_network_that_refuses_trial_image_stays_unchanged() -> None:
    network, _ = with_extras(OfOneSize(), False, None, in_channels=1)
    assert all(weight.requires_grad for weight in network.parameters())
    assert network.training


def test_unknown_architecture_of_smp_is_explained() -> None:
    with pytest.raises(UserError, match="Nonsense"):
        SmpModel("Nonsense", tiny.ENCODER)
    with pytest.raises(UserError, match="resnet17"):
        SmpModel("FPN", "resnet17")
