"""Linear probes against scikit-learn."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from lightning_emseg.callbacks.feature_probe import Features
from lightning_emseg.callbacks.linear_probe import LinearProbe, fit_linear
from tests.support.feature_clouds import clouds


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
