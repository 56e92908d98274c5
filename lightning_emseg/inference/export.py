"""Predicted masks as pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import tifffile
from PIL import Image
from tqdm import tqdm

from data_modules.store import MosaicStore, read

Format = Literal["png", "tiff"]
Polarity = Literal["dark", "bright"]


def export_masks(samples: Sequence[Path], folder: Path, picture: Format, polarity: Polarity) -> Path:
    """Write the first label of each sample as an 8-bit picture, ``<folder>/<split>/<sample>.<format>``.

    Args:
        samples: Folders ``<store>/<split>/<sample>``.
        folder: Made where it does not exist; pictures in it are replaced.
        picture: File format; 3D masks become multi-page TIFF and cannot be PNG.
        polarity: ``dark`` writes foreground as 0 on 255, ``bright`` as 255 on 0; classes keep their values.

    Returns:
        ``folder``.
    """
    for path in tqdm(samples, desc=f"masks as {picture}", unit="mosaic", disable=None):
        split, name = path.parts[-2:]
        sample = MosaicStore(path.parents[1]).sample(f"{split}/{name}")
        label = next(iter(sample.labels.values()))
        pixels = read(label, [slice(0, side) for side in label.shape])
        if label.info is None or label.info.kind == "binary":
            pixels = np.where((pixels == 1) == (polarity == "bright"), 255, 0).astype(np.uint8)
        target = folder / split / f"{name}.{picture}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if picture == "tiff":
            tifffile.imwrite(target, pixels, compression="zlib")
        else:
            Image.fromarray(pixels).save(target)
    return folder
