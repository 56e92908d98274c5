"""What an image is compared with: the window without information that integrated gradients start from."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from lightning_emseg.attribution.location_hash import location_noise
from lightning_emseg.attribution.sides import SECTION_AXES

Baseline = Literal["noise", "zero", "mean", "blurred"]
Grey = NDArray[np.float32]
_BLUR_NM = 200.0


def baseline_window(
    kind: Baseline, image: Grey, key: Sequence[int], origin: Sequence[int], pixel_size_nm: Sequence[float]
) -> Grey:
    """The window that the path begins at.

    Args:
        kind: ``noise``, uniform over the grey range and the same wherever a location is seen (Shi et al. 2021: "the
            random noise image"); ``zero``, which is black; ``mean``, the middle of the grey range, 127.5 (what zeros
            are in the published code, after normalisation); ``blurred``, the image through a Gaussian with a standard
            deviation of 200 nm, in which membranes cannot be seen any more; volumes section by section.
        image: ``float32 (C, *S)``, grey levels 0–255.
        key: Seed and number of the mosaic.
        origin: First pixel of the window in its mosaic, in px.
        pixel_size_nm: One value an axis.

    Returns:
        ``float32 (C, *S)``, grey levels 0–255.
    """
    return _MAKERS[kind](image, key, origin, pixel_size_nm)


def _noise(image: Grey, key: Sequence[int], origin: Sequence[int], pixel_size_nm: Sequence[float]) -> Grey:
    channels = [location_noise((*key, channel), origin, image.shape[1:]) for channel in range(len(image))]
    return np.stack(channels).astype(np.float32)


def _zero(image: Grey, key: Sequence[int], origin: Sequence[int], pixel_size_nm: Sequence[float]) -> Grey:
    return np.zeros_like(image)


def _mean(image: Grey, key: Sequence[int], origin: Sequence[int], pixel_size_nm: Sequence[float]) -> Grey:
    return np.full_like(image, 127.5)


def _blurred(image: Grey, key: Sequence[int], origin: Sequence[int], pixel_size_nm: Sequence[float]) -> Grey:
    # Not across sections: they differ in brightness and place, and within each of them nothing is left to be seen.
    across = [0.0] * (image.ndim - SECTION_AXES)
    blurred: Grey = gaussian_filter(
        image, [*across, *(_BLUR_NM / size for size in pixel_size_nm[-SECTION_AXES:])], mode="reflect"
    )
    return blurred


_MAKERS: dict[Baseline, Callable[[Grey, Sequence[int], Sequence[int], Sequence[float]], Grey]] = {
    "noise": _noise,
    "zero": _zero,
    "mean": _mean,
    "blurred": _blurred,
}
