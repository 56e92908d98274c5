"""A store of images and volumes with several classes, for the tests of planes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_modules.store import LabelInfo, MosaicStore, MosaicView, SampleWriter
from tests.support.mosaic_checks import Bytes, grey

NAMES = ["background", "mito", "golgi"]
CUBIC = (5.0, 4.2, 4.2)
FLAT = (40.0, 4.0, 4.0)
SAMPLES: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "train/cube": ((20, 24, 22), CUBIC),
    "train/image": ((33, 40), (4.0, 4.0)),
    "train/stack": ((5, 28, 36), FLAT),
    "val/cube": ((18, 17, 21), CUBIC),
    "val/image": ((30, 19), (4.0, 4.0)),
    "val/stack": ((3, 20, 34), FLAT),
}
Store = tuple[Path, dict[str, tuple[Bytes, Bytes]]]


def write(store: Path, keys: Sequence[str]) -> dict[str, tuple[Bytes, Bytes]]:
    written = {}
    for number, key in enumerate(keys):
        shape, size = SAMPLES[key]
        image = grey(shape, seed=number)
        mask = np.array([0, 1, 2, 255], np.uint8)[
            np.random.default_rng(100 + number).choice(4, shape, p=[0.5, 0.2, 0.2, 0.1])
        ]
        split, name = key.split("/")
        with SampleWriter(store, split, name, shape, size) as sample:
            sample.image.write(image)
            sample.add_label("organelles", LabelInfo("classes", dict(enumerate(NAMES)))).write(mask)
        written[key] = (image, mask)
    return written


def view(mixed: Store, key: str) -> MosaicView:
    return MosaicView.of(MosaicStore(mixed[0]).sample(key), "organelles", classes=NAMES)
