"""Grey values, channels and sides of an input, and the probability of an output."""

import numpy as np
import pytest
import torch

from data_modules.errors import UserError
from lightning_emseg.modules.linknet import LinkNet
from tests.support import tiny


def test_grey_values_are_normalised_by_the_module() -> None:
    module = tiny.GreyModule(grey_mean=100.0, grey_std=20.0)
    image = torch.tensor([[[[80, 100, 120]]]], dtype=torch.uint8)
    assert module(image).flatten().tolist() == [tiny.SLOPE, 0.0, -tiny.SLOPE]


def test_wrong_channels_and_sides_are_explained() -> None:
    module = LinkNet(tiny.ENCODER, in_channels=3)
    with pytest.raises(UserError, match=r"have 1 channel\(s\) .* --model.in_channels 1"):
        module(torch.zeros(1, 1, 64, 64))
    with pytest.raises(UserError, match=r"multiples of 32 px, not 100: .* e\.g\. 96"):
        module(torch.zeros(1, 3, 64, 100))


def test_probability_is_the_sigmoid_and_has_its_gradient() -> None:
    module = tiny.GreyModule()
    image = torch.arange(256.0).reshape(1, 1, 16, 16).requires_grad_()
    (gradient,) = torch.autograd.grad(module.probability(image).sum(), image)
    logits = -tiny.SLOPE * (np.arange(256.0) - 127.5) / 127.5
    expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(module.probability(image).detach().numpy().ravel(), expected, rtol=1e-5)
    slope = -tiny.SLOPE / 127.5 * expected * (1 - expected)
    np.testing.assert_allclose(gradient.numpy().ravel(), slope, rtol=1e-3, atol=1e-9)
