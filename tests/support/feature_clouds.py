"""Clouds of points with labels, for probes of features."""

import numpy as np
import torch

from lightning_emseg.callbacks.probes import Features


def clouds(number: int, seed: int, spread: float = 1.0) -> Features:
    """Three clouds of points around fixed centres in 5 dimensions."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(3, 5)) * 2
    labels = random.integers(0, 3, number)
    values = centres[labels] + spread * random.normal(size=(number, 5))
    return Features(torch.from_numpy(values.astype(np.float32)), torch.from_numpy(labels))
