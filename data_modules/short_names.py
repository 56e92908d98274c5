"""The list of classes that a configuration's ``data`` section can name without their module, ``class_path: URISC``.

Each is imported only when it is named; ``from data_modules import URISC`` finds it too.
"""

from collections.abc import Mapping

SHORT_NAMES: Mapping[str, Mapping[str, str]] = {
    "data": {
        "CREMI": "data_modules.cremi",
        "ISBI2012": "data_modules.isbi2012",
        "LabelledTiles": "data_modules.labelled_tiles",
        "Mosaic": "data_modules.mosaic",
        "SyntheticMosaics": "data_modules.synthetic_mosaics",
        "Tiles": "data_modules.tiles",
        "URISC": "data_modules.urisc",
    },
    "sampling": {
        "FixedPatches": "data_modules.patches.sampling",
        "ForegroundPatches": "data_modules.patches.sampling",
        "GridPatches": "data_modules.patches.sampling",
        "RandomPatches": "data_modules.patches.sampling",
    },
    "splits": {
        "MosaicSplit": "data_modules.patches.splits",
        "PatchSplit": "data_modules.patches.splits",
        "RegionSplit": "data_modules.patches.splits",
        "SectionSplit": "data_modules.patches.splits",
    },
    "augmentation": {
        "Augment": "data_modules.augment.images",
        "ResizedCropAugment": "data_modules.augment.images",
        "TwoViews": "data_modules.augment.views",
        "VolumeAugment": "data_modules.augment.volumes",
    },
}
"""Modules by class, by kind."""
