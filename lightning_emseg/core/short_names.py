"""The list of this package's classes that a configuration can name without their module, ``class_path: UNet``.

Each is imported only when it is named; ``from lightning_emseg.modules import UNet`` finds it too. Classes of data are
listed in :mod:`data_modules.short_names`.
"""

from collections.abc import Mapping

SHORT_NAMES: Mapping[str, Mapping[str, str]] = {
    "modules": {
        "AttnUNet3D": "lightning_emseg.modules.volume_baselines",
        "CASENet": "lightning_emseg.modules.casenet",
        "CleftNet": "lightning_emseg.modules.cleftnet",
        "LinkNet": "lightning_emseg.modules.smp_model",
        "MoCo": "lightning_emseg.modules.moco",
        "ResUNet3D": "lightning_emseg.modules.volume_baselines",
        "SegNet3D": "lightning_emseg.modules.volume_baselines",
        "SmpModel": "lightning_emseg.modules.smp_model",
        "TileClassifier": "lightning_emseg.modules.tile_classifier",
        "UNet": "lightning_emseg.modules.unet",
        "UNet3D": "lightning_emseg.modules.volume_baselines",
        "VNet": "lightning_emseg.modules.volume_baselines",
        "VanillaUNet": "lightning_emseg.modules.vanilla_unet",
    },
    "losses": {
        "BCELoss": "lightning_emseg.losses.bce",
        "CleftLoss": "lightning_emseg.losses.cleft",
        "CoherenceLoss": "lightning_emseg.losses.cleft",
        "CrossEntropyLoss": "lightning_emseg.losses.cross_entropy",
        "DiceLoss": "lightning_emseg.losses.focal_dice",
        "FocalDiceLoss": "lightning_emseg.losses.focal_dice",
        "FocalLoss": "lightning_emseg.losses.focal_dice",
        "TverskyLoss": "lightning_emseg.losses.tversky",
        "WeightedBCELoss": "lightning_emseg.losses.weighted_bce",
        "WeightedL2Loss": "lightning_emseg.losses.cleft",
    },
    "metrics": {
        "AdaptedRand": "lightning_emseg.metrics.classes",
        "CleftDistances": "lightning_emseg.metrics.classes",
        "LabelledObjectsIoU": "lightning_emseg.metrics.classes",
        "SkeletonRecall": "lightning_emseg.metrics.classes",
        "SurfaceDistances": "lightning_emseg.metrics.classes",
        "TolerantF1": "lightning_emseg.metrics.classes",
        "UriscF1": "lightning_emseg.metrics.classes",
        "VInfo": "lightning_emseg.metrics.classes",
        "VRand": "lightning_emseg.metrics.classes",
        "VariationOfInformation": "lightning_emseg.metrics.classes",
    },
    "callbacks": {
        "AttributionFields": "lightning_emseg.callbacks.attribution_fields",
        "ErrorMaps": "lightning_emseg.callbacks.evaluation_files",
        "FiniteLoss": "lightning_emseg.callbacks.finite_loss",
        "KNNProbe": "lightning_emseg.callbacks.probes",
        "KeyedRandomness": "lightning_emseg.callbacks.resuming",
        "LastCheckpoint": "lightning_emseg.callbacks.resuming",
        "LinearProbe": "lightning_emseg.callbacks.probes",
        "MegapixelProgressBar": "lightning_emseg.callbacks.progress",
        "Overlays": "lightning_emseg.callbacks.evaluation_files",
        "PredictionWriter": "lightning_emseg.callbacks.prediction_writer",
        "Preemption": "lightning_emseg.callbacks.resuming",
        "ResumablePlateau": "lightning_emseg.callbacks.resuming",
        "RunFolder": "lightning_emseg.callbacks.run_folder",
        "ScoreFiles": "lightning_emseg.callbacks.evaluation_files",
        "Throughput": "lightning_emseg.callbacks.throughput",
    },
    "attribution": {
        "Captum": "lightning_emseg.attribution.captum",
        "IntegratedGradients": "lightning_emseg.attribution.integrated_gradients",
    },
}
"""Modules by class, by the package that exports the class."""
