"""Fields of a trained network against the difference that they must sum to."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_emseg.attribution.location_hash import location_noise
from lightning_emseg.attribution.network_copy import detached_copy
from lightning_emseg.attribution.outputs import PixelOutput
from lightning_emseg.attribution.path import Path, Rule, answers_at, path_attributions
from lightning_emseg.attribution.points import OUTCOMES, outcomes
from lightning_emseg.networks.vanilla_unet import VanillaUNet
from tests.support import tiny

Trained = tuple[nn.Module, Tensor, Tensor, NDArray[np.uint8]]


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A U-Net that has learnt something: its copy, an image, noise, and the outcome of every pixel."""
    torch.manual_seed(0)
    network = VanillaUNet(base_channels=16, depth=1)
    # Many images: one that knows a few by heart has gradients that jump at every step of the path.
    made = [tiny.content((32, 32), seed) for seed in range(201)]
    images, masks = (torch.from_numpy(np.stack(each))[:, None].float() for each in zip(*made, strict=True))
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=60)
    for _ in range(60):
        some = torch.randperm(200)[:4]
        known = masks[some] <= 1
        logits = network((images[some] - 127.5) / 127.5)
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.binary_cross_entropy_with_logits(logits[known], masks[some][known]))
        optimizer.step()
        schedule.step()
    copied = detached_copy(network, 127.5, 127.5)
    noise = torch.from_numpy(location_noise((0, 0), (0, 0), (32, 32))).float()[None]
    image, truth = images[200], masks[200, 0].numpy().astype(np.uint8)
    predicted = copied(image[None])[0, 0].numpy() > 0
    assert (predicted == (truth == 1))[truth != 255].mean() > 0.85
    return copied, image, noise, outcomes(truth, predicted)


def relative_errors(trained: Trained, path: Path, each: int) -> NDArray[np.float64]:
    """Completeness errors over max(|F(x) − F(x')|, 1 logit), of some pixels of each outcome: (outcomes, each)."""
    network, image, noise, codes = trained
    answers, random = PixelOutput(network), np.random.default_rng(0)
    chosen = [random.choice(np.flatnonzero(codes == code), each, replace=False) for code in range(len(OUTCOMES))]
    flat = torch.from_numpy(np.concatenate(chosen))
    sums = path_attributions(answers, image, noise, list(flat[:, None]), path).double().flatten(1).sum(dim=1)
    difference = (answers_at(answers, image, flat) - answers_at(answers, noise, flat)).double()
    found: NDArray[np.float64] = ((sums - difference).abs() / difference.abs().clamp(min=1)).numpy()
    return found.reshape(len(OUTCOMES), each)


def test_trained_fields_are_complete_to_one_per_cent(trained: Trained) -> None:
    errors = relative_errors(trained, Path(100), 4)
    assert errors.mean() < 0.01
    # A rectifier that opens or shuts between two steps costs single pixels more than that.
    assert errors.max() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["riemann_middle", "riemann_trapezoid", "gausslegendre"])
def test_trained_fields_converge_to_completeness(trained: Trained, rule: Rule) -> None:
    few, many = (relative_errors(trained, Path(steps, rule), 1) for steps in (25, 400))
    assert many.mean() < few.mean() / 5
    assert many.max() < 0.01
