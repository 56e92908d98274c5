"""How the exact and the fast path are chosen, and what both give."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from data_modules.errors import UserError
from data_modules.geometry import Shape
from lightning_emseg.attribution import integrated_gradients as module
from lightning_emseg.attribution.fields import IntegrationPath, shared_fields
from lightning_emseg.attribution.integrated_gradients import BoundIntegratedGradients, IntegratedGradients
from lightning_emseg.attribution.method import Field
from lightning_emseg.attribution.network import GreyNetwork, PixelOutput, detached_copy
from lightning_emseg.attribution.points import group_pixels
from lightning_emseg.networks.vanilla_unet import VanillaUNet
from tests.support.attribution_checks import fields_of, lattice, settled, windows

PIXELS: Sequence[Shape] = lattice((64, 64), (16, 16), (8, 8))


def network_of(seed: int = 0) -> GreyNetwork:
    torch.manual_seed(seed)
    return detached_copy(settled(VanillaUNet(base_channels=2, depth=2)), 0.0, 1.0)


def assert_same(found: Sequence[Field], expected: Sequence[Field], share: float) -> None:
    for mine, truth in zip(found, expected, strict=True):
        whole = truth.whole((64, 64))
        np.testing.assert_allclose(mine.whole((64, 64)), whole, rtol=0, atol=share * float(np.abs(whole).max()))
        assert mine.pixel == truth.pixel


def test_shared_fields_follow_the_settings() -> None:
    network = network_of()
    bound = IntegratedGradients(4, "gausslegendre", "probability", reach=7).bind(network, 4)
    image, baseline = windows(1, 64, 64)
    together = bound.groups(PIXELS, (1, 64, 64))
    # A quarter further than the reach, rounded up.
    assert together == group_pixels(PIXELS, (9, 9))
    found = bound.fields(image, baseline, PIXELS, together)
    answers, path = PixelOutput(network, "probability"), IntegrationPath(4, "gausslegendre")
    # The batch norms are folded, which rounds otherwise.
    assert_same(found, shared_fields(answers, image, baseline, PIXELS, together, path, (7, 7)), 1e-3)
    exact = bound.exact_fields(image, baseline, PIXELS[:2])
    assert exact is not None
    assert_same(exact, fields_of(answers, image, baseline, PIXELS[:2], path), 1e-5)


@pytest.mark.parametrize("options", [{"exact": True, "reach": 5}, {}])
def test_fields_are_exact_on_request_or_without_reach(options: dict[str, bool]) -> None:
    bound = IntegratedGradients(3, **options).bind(network_of(), 4)  # type: ignore[arg-type]
    together = bound.groups(PIXELS, (1, 64, 64))
    assert together == [[index] for index in range(len(PIXELS))]
    image, baseline = windows(1, 64, 64)
    found = bound.fields(image, baseline, PIXELS, together)
    assert_same(found, fields_of(PixelOutput(network_of()), image, baseline, PIXELS, IntegrationPath(3)), 1e-5)


def test_reach_covering_the_receptive_field_is_exact() -> None:
    bound = IntegratedGradients(3, reach=60).bind(network_of(), 4)
    image, baseline = windows(1, 128, 128)
    pixels: Sequence[Shape] = [(64, 64), (0, 127)]
    found = bound.fields(image, baseline, pixels, bound.groups(pixels, image.shape))
    expected = fields_of(PixelOutput(network_of()), image, baseline, pixels, IntegrationPath(3))
    for mine, truth in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine.whole((128, 128)), truth.whole((128, 128)), rtol=0, atol=1e-5)


def test_exact_path_needs_every_axis_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    monkeypatch.setattr(module, "exact_fields", lambda *_: used.append("exact"))
    monkeypatch.setattr(module, "shared_fields", lambda *_: used.append("fast"))
    image, baseline = windows(1, 64, 64)
    for kernel, expected in (((3, 9), "fast"), ((9, 3), "fast"), ((3, 3), "exact")):
        convolution = nn.Conv2d(1, 1, kernel, padding=(kernel[0] // 2, kernel[1] // 2)).eval()
        IntegratedGradients(3, reach=4).bind(convolution, 1).fields(image, baseline, [(5, 5)], [[0]])
        assert used.pop() == expected


def test_reach_is_learnt_unless_given() -> None:
    values = np.zeros((64, 64), np.float32)
    values[10:31, 30] = 1
    field = Field((30, 30), (0, 0), values, 0.0, 0.0)
    learning = IntegratedGradients(3).bind(network_of(), 4)
    learning.calibrate([], 0.01)
    assert learning.groups([(0, 0), (0, 63)], (1, 64, 64)) == [[0], [1]]
    learning.calibrate([field], 0.01)
    assert learning.reach == (20, 20)
    assert learning.groups([(0, 0), (0, 24), (0, 49)], (1, 64, 64)) == [[0, 2], [1]]
    assert learning.record["reach_px"] == 20
    given = IntegratedGradients(3, reach=4).bind(network_of(), 4)
    given.calibrate([field], 0.01)
    assert given.groups([(0, 0), (0, 4), (0, 9)], (1, 64, 64)) == [[0, 2], [1]]
    assert given.record["reach_px"] == 4


def test_brain_floats_apply_only_to_shared_fields() -> None:
    image, baseline = windows(1, 64, 64)
    rough, fine = (IntegratedGradients(3, reach=6, precision=p).bind(network_of(), 4) for p in ("bf16", "32"))
    together = fine.groups(PIXELS, (1, 64, 64))
    first, second = (bound.fields(image, baseline, PIXELS, together)[5].values for bound in (rough, fine))
    assert not np.array_equal(first, second)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.9
    for mine, truth in zip(*(bound.exact_fields(image, baseline, PIXELS[:2]) for bound in (rough, fine)), strict=True):
        np.testing.assert_array_equal(mine.values, truth.values)


def test_records_are_json_and_name_the_settings() -> None:
    bound = IntegratedGradients(5, output="probability", baseline="mean").bind(network_of(), 4)
    bound.exact_fields(*windows(1, 96, 128), [(0, 0)])
    record = json.loads(json.dumps(bound.record))
    for name, value in (("steps", 5), ("rule", "riemann_middle"), ("output", "probability"), ("baseline", "mean")):
        assert record[name] == value
    assert (record["reach_px"], record["precision"]) == (None, "32")
    assert len(record["receptive_radius_px"]["96 × 128"]) == 2


def test_network_is_left_unchanged() -> None:
    network = network_of()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    bound = IntegratedGradients(3, reach=6).bind(network, 4)
    assert isinstance(bound, BoundIntegratedGradients)
    image, baseline = windows(1, 64, 64)
    random = torch.get_rng_state()
    with torch.inference_mode():
        bound.fields(image, baseline, PIXELS, bound.groups(PIXELS, (1, 64, 64)))
        bound.exact_fields(image, baseline, PIXELS[:1])
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize(("options", "message"), [({"steps": 1}, "steps must be"), ({"reach": 0}, "reach must be")])
def test_invalid_settings_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        IntegratedGradients(**options)  # type: ignore[arg-type]
