"""Random streams that do not touch each other, whatever seed, epoch and patch."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """Purposes of streams; streams of two purposes never coincide."""

    PATCHES = 1
    AUGMENTATION = 2
    SPLIT = 3
    VALIDATION = 4


def stream(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """Create a generator that depends on nothing but its arguments.

    Args:
        seed: Random seed of the run, at least 0.
        purpose: Subject of the draws.
        key: Epoch, patch and the like.
    """
    return np.random.default_rng([seed, purpose, *key])
