"""Votes of neighbours, as in a loop."""

import math

import pytest

from lightning_emseg.callbacks.knn_probe import knn_labels
from tests.support.feature_clouds import clouds


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
