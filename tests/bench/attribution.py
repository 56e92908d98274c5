"""Attribution fields: cost of a pixel by captum in a loop, exactly and fast, in one run, with the fast one's error."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from torch import Tensor

from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.attribution.areas import THRESHOLDS, compare_fields, summarise_accuracy
from lightning_emseg.attribution.fields import Precision
from lightning_emseg.attribution.integrated_gradients import BoundIntegratedGradients, IntegratedGradients
from lightning_emseg.attribution.method import Field
from lightning_emseg.attribution.network import GreyNetwork, PixelOutput, detached_copy, flat_index
from lightning_emseg.attribution.points import Pixel, choose_stratified, draw_priorities
from lightning_emseg.attribution.windows import baseline_window
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.restore import restore
from lightning_emseg.modules.unet import UNet
from tests.bench.harness import Row, cores, interleave, median, synthetic_image, synthetic_mask

SIDE = 512
STEPS = 20
PER_OUTCOME = 16
CHECKED = 4
ROUNDS = 2
TRAINING_STEPS = 120


def rows(scratch: Path) -> Iterator[Row]:
    """U-Net/ResNet-18 on one window of 512²; ``EMSEG_BENCH_RUN=CHECKPOINT,STORE,SAMPLE`` measures another network."""
    torch.set_num_threads(cores())
    named = os.environ.get("EMSEG_BENCH_RUN")
    name, module, image, truth = _given(named) if named else _trained()
    network = detached_copy(module.network, float(module.grey_mean), float(module.grey_std))
    window = torch.from_numpy(image[None].astype(np.float32))
    baseline = torch.from_numpy(baseline_window("noise", window.numpy(), (0,), (0, 0), (4.0, 4.0)))
    with torch.no_grad():
        predicted = torch.sigmoid(network(window[None])[0, 0]).numpy() >= float(module.threshold)
    chosen = choose_stratified(truth, predicted, PER_OUTCOME, draw_priorities((0,), (0, 0), truth.shape))
    pixels = [pixel for pixel, _ in chosen]
    # Some of every outcome.
    checked = pixels[:: max(1, len(pixels) // CHECKED)][:CHECKED]
    plain, halved = (_bound(network, module.stride, precision) for precision in ("32", "bf16"))
    exact = plain.exact_fields(window, baseline, checked)
    assert exact is not None
    plain.calibrate(exact, THRESHOLDS[0])
    halved.reach = plain.reach
    groups = plain.groups(pixels, window.shape)
    found: dict[str, list[Field]] = {}

    def fast(bound: BoundIntegratedGradients, key: str) -> None:
        found[key] = bound.fields(window, baseline, pixels, groups)

    candidates: dict[str, Callable[[], object]] = {
        "loop": partial(_captum, network, window, baseline, pixels[0]),
        "exact": partial(plain.exact_fields, window, baseline, checked),
        "fast": partial(fast, plain, "fast"),
        "fast bf16": partial(fast, halved, "fast bf16"),
    }
    counts = {"loop": 1, "exact": len(checked), "fast": len(pixels), "fast bf16": len(pixels)}
    seconds = interleave(candidates, ROUNDS, warmup=0)
    per_pixel = {key: median(seconds[key]) / counts[key] for key in candidates}
    about = f"{name}, {SIDE}² px, {STEPS} steps"
    yield Row("attribution", "captum, one pixel after the other", per_pixel["loop"], "s", note=about)
    yield _row("exact", per_pixel, f"{len(checked)} pixels that share forward passes")
    for key in ("fast", "fast bf16"):
        by_pixel = {field.pixel: field for field in found[key]}
        shape = (SIDE, SIDE)
        differences = [
            compare_fields(by_pixel[each.pixel].whole(shape), each.whole(shape), THRESHOLDS) for each in exact
        ]
        error = summarise_accuracy(differences, THRESHOLDS)
        assert error is not None
        errors = " / ".join(f"{value:.1%}" for value in error.mean_error)
        note = (
            f"{len(pixels)} pixels in {len(groups)} passes, reach {plain.reach and plain.reach[0]} px; mean error of "
            f"S_k at {THRESHOLDS}: {errors}, correlation {error.correlation:.4f} ({error.pixels} pixels)"
        )
        yield _row(key, per_pixel, note, target=10)


def _row(key: str, per_pixel: dict[str, float], note: str, target: float | None = None) -> Row:
    ratio = per_pixel["loop"] / per_pixel[key]
    return Row(
        "attribution",
        f"{key}, a pixel",
        per_pixel[key],
        "s",
        "captum in a loop",
        ratio,
        "" if target is None else f"≥ {target:g} ×",
        None if target is None else ratio >= target,
        note,
    )


def _bound(network: GreyNetwork, stride: int, precision: Precision) -> BoundIntegratedGradients:
    return IntegratedGradients(STEPS, precision=precision).bind(network, stride)


def _captum(network: GreyNetwork, window: Tensor, baseline: Tensor, pixel: Pixel) -> None:
    target = int(flat_index([pixel], (SIDE, SIDE))[0])
    method = CaptumIntegratedGradients(PixelOutput(network))
    # All steps at once would need tens of gigabytes; on a CPU one after the other is the fastest.
    method.attribute(
        window[None], baseline[None], target=target, n_steps=STEPS, method="riemann_middle", internal_batch_size=1
    )


def _trained() -> tuple[str, SegmentationMixin, np.ndarray, np.ndarray]:
    torch.manual_seed(0)
    module = UNet("resnet18")
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    for step in range(TRAINING_STEPS):
        images = np.stack([synthetic_image((128, 128), seed=1, first=16 * step + 4 * index) for index in range(4)])
        masks = np.stack([synthetic_mask((128, 128), seed=1, first=16 * step + 4 * index) for index in range(4)])
        loss = module.loss(module(torch.from_numpy(images)[:, None]), torch.from_numpy(masks))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    shape = (SIDE, SIDE)
    return "U-Net/ResNet-18, briefly trained", module.eval(), synthetic_image(shape, 2), synthetic_mask(shape, 2)


def _given(named: str) -> tuple[str, SegmentationMixin, np.ndarray, np.ndarray]:
    checkpoint, store, key = named.split(",")
    view = MosaicView.of(MosaicStore(store).sample(key), "membrane")
    module = restore(Path(checkpoint))
    origin = tuple((side - SIDE) // 2 for side in view.shape)
    shape = (SIDE, SIDE)
    return f"{type(module).__name__} of {key}", module, view.read_image(origin, shape), view.read_mask(origin, shape)
