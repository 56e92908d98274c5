"""Callbacks: run folder, score files, prediction stores, overlays, error maps, attribution fields, speed, progress."""

from lightning_emseg.callbacks.attribution_fields import AttributionFields
from lightning_emseg.callbacks.error_maps import ErrorMaps
from lightning_emseg.callbacks.overlays import Overlays
from lightning_emseg.callbacks.prediction_writer import PredictionWriter
from lightning_emseg.callbacks.progress import MegapixelProgressBar
from lightning_emseg.callbacks.run_folder import RunFolder
from lightning_emseg.callbacks.score_files import ScoreFiles
from lightning_emseg.callbacks.throughput import Throughput

__all__ = [
    "AttributionFields",
    "ErrorMaps",
    "MegapixelProgressBar",
    "Overlays",
    "PredictionWriter",
    "RunFolder",
    "ScoreFiles",
    "Throughput",
]
