"""Random numbers that belong to places of a mosaic, so that whoever looks at a place finds the same number there."""

import hashlib
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
_STEP = 0x9E3779B97F4A7C15
_WORD = 2**64 - 1


class Purpose(IntEnum):
    """What the numbers of a place are for; those of two purposes have nothing to do with each other."""

    PRIORITY = 1
    NOISE = 2


def number_of(name: str) -> int:
    """A whole number below 2⁶⁴ for the name of a mosaic, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def location_hash(key: Sequence[int], origin: Sequence[int], shape: Sequence[int]) -> Hashes:
    """Uniform 64-bit numbers that depend on key and absolute position alone.

    Every number of the key, then every coordinate, picks one output of the splitmix64 generator that the number before
    it has seeded; the first seed is the length of the key. Source: Steele, Lea and Flood, "Fast splittable
    pseudorandom number generators", OOPSLA 2014, with the constants of Vigna's splitmix64.

    Args:
        key: What the numbers belong to: purpose, seed and mosaic, say; taken modulo 2⁶⁴.
        origin: First pixel of the window in its mosaic, in px, as many axes as ``shape``; may be negative where a
            window reaches over the border.
        shape: Of the window, in px.

    Returns:
        ``uint64`` of ``shape``, 0 to 2⁶⁴ − 1.

    Raises:
        ValueError: if ``origin`` and ``shape`` differ in their number of axes.

    >>> int(location_hash([7], (100, 200), (64, 64))[5, 6]) == int(location_hash([7], (105, 206), (1, 1))[0, 0])
    True
    """
    # An array, not a scalar: those wrap around without a warning.
    state = np.array([len(key)], np.uint64)
    for number in key:
        state = _output(state, np.array([number & _WORD], np.uint64))
    for start, side in zip(origin, shape, strict=True):
        state = _output(state[..., None], np.arange(start, start + side, dtype=np.int64).astype(np.uint64))
    window: Hashes = state[0]
    return window


def location_noise(key: Sequence[int], origin: Sequence[int], shape: Sequence[int]) -> NDArray[np.uint8]:
    """Random noise image: grey levels uniform over 0–255, the baseline of the attribution of U-RISC's authors.

    Windows over the same place share their noise. Source: "the random noise image" of the U-RISC preprint (2021),
    equations 7–10, which does not give its distribution.

    Args:
        key: Seed and mosaic.
        origin: First pixel of the window in its mosaic, in px.
        shape: Of the window, in px.

    Returns:
        ``uint8`` of ``shape``.
    """
    return (location_hash((Purpose.NOISE, *key), origin, shape) >> np.uint64(56)).astype(np.uint8)


def _output(seed: Hashes, index: Hashes) -> Hashes:
    """Output number ``index`` of the splitmix64 generators seeded by ``seed``; broadcasts."""
    state = seed + (index + np.uint64(1)) * np.uint64(_STEP)
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return state
