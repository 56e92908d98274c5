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
        "LinkNet": "lightning_emseg.modules.linknet",
        "MoCo": "lightning_emseg.modules.moco",
        "ResUNet3D": "lightning_emseg.modules.volume_baselines",
        "SegNet3D": "lightning_emseg.modules.volume_baselines",
        "SmpModel": "lightning_emseg.modules.smp_model",
        "TileClassifier": "lightning_emseg.modules.tile_classifier",
        "UNet": "lightning_emseg.modules.unet",
        "UNet3D": "lightning_emseg.modules.volume_baselines",
        "UNetTransfer": "lightning_emseg.modules.unet_transfer",
        "VNet": "lightning_emseg.modules.volume_baselines",
        "VanillaUNet": "lightning_emseg.modules.vanilla_unet",
    },
    "losses": {
        "BCELoss": "lightning_emseg.losses.bce",
        "CleftLoss": "lightning_emseg.losses.cleft",
        "CoherenceLoss": "lightning_emseg.losses.coherence",
        "CrossEntropyLoss": "lightning_emseg.losses.cross_entropy",
        "DiceLoss": "lightning_emseg.losses.dice",
        "FocalDiceLoss": "lightning_emseg.losses.focal_dice",
        "FocalLoss": "lightning_emseg.losses.focal",
        "TverskyLoss": "lightning_emseg.losses.tversky",
        "WeightedBCELoss": "lightning_emseg.losses.weighted_bce",
        "WeightedL2Loss": "lightning_emseg.losses.weighted_l2",
    },
    "metrics": {
        "AdaptedRand": "lightning_emseg.metrics.segmentation.rand",
        "CleftDistances": "lightning_emseg.metrics.boundary.cleft_distances",
        "LabelledObjectsIoU": "lightning_emseg.metrics.segmentation.labelled_iou",
        "SkeletonRecall": "lightning_emseg.metrics.boundary.skeleton_recall",
        "SurfaceDistances": "lightning_emseg.metrics.boundary.distances",
        "TolerantF1": "lightning_emseg.metrics.boundary.tolerant_f1",
        "UriscF1": "lightning_emseg.metrics.boundary.urisc_score",
        "VInfo": "lightning_emseg.metrics.segmentation.information",
        "VRand": "lightning_emseg.metrics.segmentation.rand",
        "VariationOfInformation": "lightning_emseg.metrics.segmentation.information",
    },
    "callbacks": {
        "AttributionFields": "lightning_emseg.callbacks.attribution_fields",
        "ErrorMaps": "lightning_emseg.callbacks.error_maps",
        "FiniteLoss": "lightning_emseg.callbacks.finite_loss",
        "KNNProbe": "lightning_emseg.callbacks.knn_probe",
        "KeyedRandomness": "lightning_emseg.callbacks.keyed_randomness",
        "LastCheckpoint": "lightning_emseg.callbacks.last_checkpoint",
        "LinearProbe": "lightning_emseg.callbacks.linear_probe",
        "MegapixelProgressBar": "lightning_emseg.callbacks.progress",
        "Overlays": "lightning_emseg.callbacks.overlays",
        "PredictionWriter": "lightning_emseg.callbacks.prediction_writer",
        "Preemption": "lightning_emseg.callbacks.preemption",
        "ResumablePlateau": "lightning_emseg.callbacks.resumable_plateau",
        "RunFolder": "lightning_emseg.callbacks.run_folder",
        "ScoreFiles": "lightning_emseg.callbacks.score_files",
        "Throughput": "lightning_emseg.callbacks.throughput",
    },
    "attribution": {
        "Captum": "lightning_emseg.attribution.captum_methods.captum_method",
        "IntegratedGradients": "lightning_emseg.attribution.integrated_gradients",
    },
}
"""Modules by class, by the package that exports the class."""
