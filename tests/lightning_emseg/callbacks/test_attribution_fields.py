"""The attribution callback: right numbers, no trace in training, and where it writes them."""

import csv
import gc
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import CSVLogger

from lightning_emseg.attribution.areas import Accuracy
from lightning_emseg.attribution.captum import Captum
from lightning_emseg.attribution.integrated_gradients import IntegratedGradients
from lightning_emseg.attribution.network import GreyNetwork
from lightning_emseg.callbacks import AttributionFields
from lightning_emseg.callbacks.attribution_fields import AttributionReport, collect_scalars
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import ROOT, tiny
from tests.support.resolved import resolve_words

Rows = list[dict[str, str]]


def callback(**changes: Any) -> AttributionFields:
    options: dict[str, Any] = {"per_outcome": 2, "window": 64, "check": 2, "every_n_epochs": 1, "max_share": None}
    options["method"] = IntegratedGradients(steps=4)
    return AttributionFields(**{**options, **changes})


def unet(depth: int = 1) -> VanillaUNet:
    torch.manual_seed(5)
    return VanillaUNet(base_channels=2, depth=depth)


def read(path: Path) -> Rows:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def points_of(folder: Path, verb: str = "validate") -> Rows:
    return read(folder / "attribution" / f"points-{verb}.csv")


def test_network_of_pixels_has_fields_of_pixels(tiny_store: Path, tmp_path: Path) -> None:
    module = tiny.GreyModule()
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[callback(per_outcome=6)])
    trainer.validate(module, tiny.data_of(tiny_store), verbose=False)
    rows = points_of(tmp_path)
    assert {row["outcome"] for row in rows} == {"TP", "FP", "FN", "TN"}
    for row in rows:
        difference = float(row["output"]) - float(row["baseline_output"])
        assert float(row["completeness_error"]) < 1e-5
        # The one pixel with an attribution has the largest magnitude, and counts where it speaks for membrane.
        for k in ("0.01", "0.05", "0.1"):
            assert float(row[f"S_{k}_nm2"]) == (16.0 if difference > 0 else 0.0)
            assert float(row[f"share_{k}"]) == pytest.approx((difference > 0) / float(row["window_px"]))


def test_outcomes_and_outputs_are_those_of_the_pixels(tiny_store: Path, tmp_path: Path) -> None:
    module = tiny.GreyModule()
    data = tiny.data_of(tiny_store)
    tiny.quiet_trainer(tmp_path, callbacks=[callback()]).validate(module, data, verbose=False)
    views = {view.key: view for view in data.val_dataloader()[0].dataset.mosaics}  # type: ignore[attr-defined]
    threshold = json.loads((tmp_path / "attribution" / "validate.json").read_text())["threshold"]
    for row in points_of(tmp_path):
        view, at = views[row["mosaic"]], (int(row["y_px"]), int(row["x_px"]))
        grey = float(view.read_image(at, (1, 1))[0, 0])
        truth = int(view.read_mask(at, (1, 1))[0, 0])
        logit = -tiny.SLOPE * (grey - 127.5) / 127.5
        assert float(row["output"]) == pytest.approx(logit, abs=1e-4)
        positive = round(255 / (1 + math.exp(-logit))) >= math.ceil(threshold * 255 - 1e-4)
        assert row["outcome"] == {(1, True): "TP", (0, True): "FP", (1, False): "FN", (0, False): "TN"}[truth, positive]


def test_summary_is_mean_and_error_of_points(tiny_store: Path, tmp_path: Path) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[callback(per_outcome=5)])
    trainer.validate(unet(), tiny.data_of(tiny_store), verbose=False)
    rows = points_of(tmp_path)
    for mean in read(tmp_path / "attribution" / "summary-validate.csv"):
        chosen = [row for row in rows if mean["outcome"] in (row["outcome"], "all")]
        areas = np.array([float(row[f"S_{float(mean['k']):g}_nm2"]) for row in chosen])
        assert int(mean["pixels"]) == len(chosen)
        assert float(mean["S_nm2"]) == pytest.approx(areas.mean())
        if len(chosen) > 1:
            assert float(mean["S_nm2_se"]) == pytest.approx(areas.std(ddof=1) / len(chosen) ** 0.5)


class Spy(pl.Callback):
    """Takes down what must not change, before and after whatever callback stands between two of it."""

    def __init__(self) -> None:
        self.states: list[Any] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        gradients = [None if weight.grad is None else weight.grad.clone() for weight in pl_module.parameters()]
        modes = [module.training for module in pl_module.modules()]
        asked = [weight.requires_grad for weight in pl_module.parameters()]
        hooks = [len(module._forward_hooks) + len(module._backward_hooks) for module in pl_module.modules()]
        weights = {name: value.clone() for name, value in pl_module.state_dict().items()}
        settings = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))
        random = (torch.get_rng_state(), str(np.random.get_state()))  # noqa: NPY002
        self.states.append((gradients, modes, asked, hooks, weights, settings, random))


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_is_unchanged_to_the_bit(tiny_store: Path, tmp_path: Path, precision: str) -> None:
    finals = []
    for extra in ([], [callback()]):
        torch.manual_seed(1)
        module = unet()
        before, after = Spy(), Spy()
        # Validation between training batches too, so that there are gradients and momenta to disturb.
        trainer = tiny.quiet_trainer(
            tmp_path / str(len(extra)),
            callbacks=[before, *extra, after],
            max_epochs=2,
            precision=precision,
            val_check_interval=2,
        )
        trainer.fit(module, tiny.data_of(tiny_store, patches_per_epoch=8))
        assert same(before.states, after.states)
        optimizer = trainer.optimizers[0].state_dict()
        finals.append((module.state_dict(), optimizer, torch.get_rng_state(), torch.rand(3)))
    assert len({row["step"] for row in points_of(tmp_path / "1", "fit")}) == 4
    gc.collect()
    # Nor is any memory kept.
    assert not [found for found in gc.get_objects() if isinstance(found, GreyNetwork)]
    assert same(finals[0], finals[1])


def test_epochs_see_equal_places_while_outcomes_stay(tiny_store: Path, tmp_path: Path) -> None:
    module = tiny.GreyModule(optimizer=lambda weights: torch.optim.SGD(weights, lr=0.0))
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[callback(every_n_epochs=2)], max_epochs=5)
    trainer.fit(module, tiny.data_of(tiny_store))
    rows = points_of(tmp_path, "fit")
    by_epoch = {
        epoch: [
            {key: value for key, value in row.items() if key not in ("epoch", "step")}
            for row in rows
            if row["epoch"] == epoch
        ]
        for epoch in sorted({row["epoch"] for row in rows})
    }
    # Every second epoch, and the last one.
    assert list(by_epoch) == ["1", "3", "4"]
    assert by_epoch["1"] == by_epoch["3"] == by_epoch["4"]
    pictures = sorted(path.name for path in (tmp_path / "figures").glob("attribution-*"))
    assert pictures[0].startswith("attribution-epoch-0001")


def test_attribution_waits_until_validation_has_cost_enough(
    tiny_store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[callback(max_share=0.2)], max_epochs=2)
    with caplog.at_level("INFO"):
        trainer.fit(unet(), tiny.data_of(tiny_store))
    assert "put off" in caplog.text
    assert not (tmp_path / "attribution").exists()
    # Pixels of validation that the second epoch reaches, and the first does not.
    generous = tiny.quiet_trainer(tmp_path, callbacks=[callback(max_share=100.0)], max_epochs=2)
    generous.fit(unet(), tiny.data_of(tiny_store))
    assert {row["epoch"] for row in points_of(tmp_path, "fit")} == {"0", "1"}


def test_test_verb_and_mosaics_smaller_than_the_window(tiny_store: Path, tmp_path: Path) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[callback(windows=5)])
    trainer.test(unet(depth=2), tiny.data_of(tiny_store), verbose=False)
    rows = points_of(tmp_path, "test")
    record = json.loads((tmp_path / "attribution" / "test.json").read_text())
    sizes = {window["mosaic"]: window["size_px"] for window in record["windows"]}
    # 50 × 40 px, in a window of multiples of 4; pixels and areas are of the mosaic alone.
    assert sizes["test/m1"] == [52, 40]
    for row in rows:
        if row["mosaic"] == "test/m1":
            assert int(row["window_px"]) == 50 * 40
            assert int(row["y_px"]) < 50
    assert record["fast_against_exact"]["pixels"] == 2


def test_metrics_and_pictures_reach_the_loggers(tiny_store: Path, tmp_path: Path) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[callback()], logger=CSVLogger(tmp_path, name="", version=""))
    trainer.fit(unet(), tiny.data_of(tiny_store))
    logged = {key: value for row in read(tmp_path / "metrics.csv") for key, value in row.items() if value}
    summary = {(row["outcome"], row["k"]): row for row in read(tmp_path / "attribution" / "summary-fit.csv")}
    for (outcome, k), row in summary.items():
        assert float(logged[f"attribution/S_nm2_{k}/{outcome}"]) == pytest.approx(float(row["S_nm2"]))
        assert float(logged[f"attribution/pixels/{outcome}"]) == int(row["pixels"])
    picture = next((tmp_path / "figures").glob("attribution-epoch-0000*.png"))
    assert np.asarray(Image.open(picture)).ndim == 3


def test_deterministic_training_allows_deeplift_and_stays_deterministic(tiny_store: Path, tmp_path: Path) -> None:
    tables = []
    for number, deterministic in enumerate((False, True, True)):
        folder = tmp_path / str(number)
        method = Captum("captum.attr.DeepLift")
        trainer = tiny.quiet_trainer(folder, callbacks=[callback(method=method)], deterministic=deterministic)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*deterministic")
            trainer.fit(unet(), tiny.data_of(tiny_store))
        tables.append(points_of(folder, "fit"))
    assert tables[0] == tables[1] == tables[2]
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()


def test_captum_is_named_by_its_short_name() -> None:
    method = "{class_path: Captum, init_args: {method: captum.attr.Saliency}}"
    words = ["--trainer.callbacks+", "AttributionFields", "--trainer.callbacks.method", method]
    resolved = resolve_words("fit", "--config", str(ROOT / "experiments" / "smoke.yaml"), *words)
    (found,) = (each for each in resolved["trainer"]["callbacks"] if each["class_path"].endswith("AttributionFields"))
    assert found["init_args"]["method"]["class_path"].endswith("attribution.Captum")
    assert found["init_args"]["method"]["init_args"]["method"] == "captum.attr.Saliency"


def test_nothing_to_look_at_is_said(tmp_path: Path) -> None:
    image, _ = tiny.content((70, 70), 3)
    for key in ("train/a", "val/a"):
        tiny.write_sample(tmp_path / "s.zarr", key, image, np.zeros((70, 70), np.uint8))
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[callback()])
    with pytest.warns(UserWarning, match="no window shows both foreground and background"):
        trainer.validate(tiny.GreyModule(), tiny.data_of(tmp_path / "s.zarr"), verbose=False)
    assert not (tmp_path / "attribution").exists()


def test_errors_are_logged_under_their_thresholds() -> None:
    accuracy = Accuracy((0.01, 0.1), 4, (0.25, 0.5), (0.75, 1.0), (0.0, 0.0), 0.9, 0.8)
    assert collect_scalars([], AttributionReport([], [], accuracy, {"validation_share": 0.125})) == {
        "attribution/fast_error_0.01": 0.25,
        "attribution/fast_error_0.1": 0.5,
        "attribution/validation_share": 0.125,
    }
