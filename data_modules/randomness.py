"""Random streams that do not touch each other, whatever seed, epoch and patch."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream is for; streams of two purposes never coincide."""

    PATCHES = 1
    AUGMENTATION = 2
    SPLIT = 3
    VALIDATION = 4


def stream(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """A generator that depends on nothing but its arguments.

    Args:
        seed: Of the run, at least 0.
        purpose: What is drawn.
        key: Epoch, patch and the like.
    """
    return np.random.default_rng([seed, purpose, *key])
