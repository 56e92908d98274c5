"""Probes of features: when they run, what they read, and that training does not notice."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from data_modules.augment.views import TwoViews
from data_modules.errors import UserError
from data_modules.tiles import Tiles
from lightning_emseg.callbacks.probes import FeatureProbe, Features, KNNProbe, LinearProbe, fit_linear, knn_labels
from lightning_emseg.modules.moco import MoCo
from tests.support import tiny
from tests.support.feature_clouds import clouds
from tests.support.tile_sets import make_tile_set


@pytest.mark.parametrize("probe", [KNNProbe(), LinearProbe()])
def test_clear_labels_are_found_and_noise_is_not(probe: FeatureProbe) -> None:
    assert probe.accuracy(clouds(60, 0, 0.1), clouds(60, 1, 0.1)) == 1.0
    random = torch.Generator().manual_seed(0)
    noise = [Features(torch.randn(300, 5, generator=random), torch.arange(300) % 3) for _ in range(2)]
    assert 0.2 < probe.accuracy(*noise) < 0.47


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("probed") / "set"
    make_tile_set(path)
    return path


def fit(folder: Path, out: Path, callbacks: list[pl.Callback]) -> tuple[MoCo, list[dict[str, str]]]:
    data = Tiles(str(folder), batch_size=4, held_out=0.5, seed=0, views=TwoViews(size=32))
    torch.manual_seed(0)
    module = MoCo("test_resnet", dim=8, queue_size=8)
    logger = CSVLogger(out, name="", version="")
    trainer = tiny.quiet_trainer(out, max_epochs=5, callbacks=callbacks, logger=logger, log_every_n_steps=1)
    trainer.fit(module, data)
    lines = (out / "metrics.csv").read_text().splitlines()
    header = lines[0].split(",")
    return module, [dict(zip(header, line.split(","), strict=True)) for line in lines[1:]]


def test_probes_run_at_chosen_epochs_without_trace(folder: Path, tmp_path: Path) -> None:
    probes: list[pl.Callback] = [KNNProbe(3, every_n_epochs=2), LinearProbe(every_n_epochs=3)]
    with_probes, rows = fit(folder, tmp_path / "with", probes)
    without, _ = fit(folder, tmp_path / "without", [])
    for name, value in without.state_dict().items():
        assert torch.equal(with_probes.state_dict()[name], value), name
    assert all(part.training for part in with_probes.modules())
    for name, epochs in (("val/knn", ["", "1", "3", "4"]), ("val/linear", ["", "2", "4"])):
        found = [row for row in rows if row.get(name)]
        assert [row["epoch"] for row in found] == epochs
        assert found[0]["step"] == "0"
        assert all(0 <= float(row[name]) <= 1 for row in found)


class MeanGrey(pl.LightningModule):
    """Its only feature tells coarse from fine, whose mean grey values differ, once it is centred between them."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> Tensor:
        grey = image.float().mean(dim=(1, 2, 3))[:, None] - 125
        values: Tensor = self.part(torch.cat([grey, torch.ones_like(grey)], dim=1))
        return values


@pytest.mark.parametrize("probe", [KNNProbe(3), LinearProbe()])
def test_labels_are_the_sources_and_dropout_is_off(folder: Path, probe: FeatureProbe) -> None:
    data = Tiles(str(folder), batch_size=4, held_out=0.5, seed=0)
    data.setup("fit")
    trainer = cast(Any, SimpleNamespace(datamodule=data))
    module = MeanGrey()
    assert probe._look(trainer, module) == 1.0
    assert module.part.training


class NoTiles(pl.LightningDataModule):
    def probe_batches(self) -> tuple[Iterator[Any], Iterator[Any]]:
        return iter(()), iter(())


def test_what_cannot_be_probed_is_refused() -> None:
    for data, message in ((None, "take the data module Tiles"), (NoTiles(), "raise data.held_out")):
        with pytest.raises(UserError, match=message):
            KNNProbe()._look(cast(Any, SimpleNamespace(datamodule=data)), MeanGrey())
    with pytest.raises(UserError, match="every_n_epochs"):
        KNNProbe(every_n_epochs=0)
    with pytest.raises(UserError, match="neighbours"):
        KNNProbe(neighbours=0)
    with pytest.raises(UserError, match="penalty"):
        LinearProbe(penalty=0.0)


@pytest.mark.parametrize("neighbours", [1, 7, 200])
def test_neighbours_vote_as_in_a_loop(neighbours: int) -> None:
    fit, score = clouds(60, 0, 2.0), clouds(40, 1, 2.0)
    expected = []
    for query in score.values.double().tolist():
        ranked = sorted(
            (-sum(a * b for a, b in zip(query, known, strict=True)) / (math.hypot(*query) * math.hypot(*known)), label)
            for known, label in zip(fit.values.double().tolist(), fit.labels.tolist(), strict=True)
        )
        votes = dict.fromkeys(range(3), 0.0)
        for negative, label in ranked[:neighbours]:
            votes[label] += math.exp(-negative / 0.07)
        expected.append(max(votes, key=lambda label: votes[label]))
    assert knn_labels(fit, score.values, neighbours, 0.07).tolist() == expected


def test_probe_finds_the_minimum_of_scikit_learn() -> None:
    fit, penalty = clouds(90, 2), 0.03
    weights = fit_linear(fit.values, fit.labels, penalty).numpy()
    # Scikit-learn adds up what is averaged here.
    known = LogisticRegression(C=1 / (penalty * 90), tol=1e-10, max_iter=10_000)
    known.fit(fit.values.double().numpy(), fit.labels.numpy())
    np.testing.assert_allclose(weights[:-1].T, known.coef_, atol=1e-4)
    np.testing.assert_allclose(weights[-1] - weights[-1].mean(), known.intercept_ - known.intercept_.mean(), atol=1e-4)


def test_features_that_never_change_do_no_harm() -> None:
    parts = [clouds(60, seed, 0.1) for seed in range(2)]
    fit, score = (Features(torch.cat([part.values, torch.ones(60, 2)], dim=1), part.labels) for part in parts)
    assert LinearProbe().accuracy(fit, score) == 1.0
