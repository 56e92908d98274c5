"""The list of classes that a configuration's ``data`` section can name without their module, ``class_path: URISC``.

Each is imported only when it is named; ``from data_modules import URISC`` finds it too.
"""

from collections.abc import Mapping

SHORT_NAMES: Mapping[str, Mapping[str, str]] = {
    "data": {
        "CREMI": "data_modules.cremi",
        "ISBI2012": "data_modules.isbi2012",
        "LabelledTiles": "data_modules.labelled_tiles",
        "Mosaic": "data_modules.base",
        "SyntheticMosaics": "data_modules.synthetic_mosaics",
        "Tiles": "data_modules.tiles",
        "URISC": "data_modules.urisc",
    },
    "sampling": {
        "FixedPatches": "data_modules.sampling",
        "ForegroundPatches": "data_modules.sampling",
        "GridPatches": "data_modules.sampling",
        "RandomPatches": "data_modules.sampling",
    },
    "splits": {
        "MosaicSplit": "data_modules.splits",
        "PatchSplit": "data_modules.splits",
        "RegionSplit": "data_modules.splits",
        "SectionSplit": "data_modules.splits",
    },
    "augmentation": {
        "Augment": "data_modules.transforms",
        "ResizedCropAugment": "data_modules.resized_crop",
        "TwoViews": "data_modules.views",
        "VolumeAugment": "data_modules.volume_augment",
    },
}
"""Modules by class, by kind."""
