"""Callbacks: what a run writes and shows, how it is stopped and goes on."""

from lightning_emseg.callbacks.attribution_fields import AttributionFields
from lightning_emseg.callbacks.error_maps import ErrorMaps
from lightning_emseg.callbacks.finite_loss import FiniteLoss
from lightning_emseg.callbacks.keyed_randomness import KeyedRandomness
from lightning_emseg.callbacks.last_checkpoint import LastCheckpoint
from lightning_emseg.callbacks.overlays import Overlays
from lightning_emseg.callbacks.prediction_writer import PredictionWriter
from lightning_emseg.callbacks.preemption import Preemption
from lightning_emseg.callbacks.progress import MegapixelProgressBar
from lightning_emseg.callbacks.resumable_plateau import ResumablePlateau
from lightning_emseg.callbacks.run_folder import RunFolder
from lightning_emseg.callbacks.score_files import ScoreFiles
from lightning_emseg.callbacks.throughput import Throughput

__all__ = [
    "AttributionFields",
    "ErrorMaps",
    "FiniteLoss",
    "KeyedRandomness",
    "LastCheckpoint",
    "MegapixelProgressBar",
    "Overlays",
    "PredictionWriter",
    "Preemption",
    "ResumablePlateau",
    "RunFolder",
    "ScoreFiles",
    "Throughput",
]
