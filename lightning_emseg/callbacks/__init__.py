"""Callbacks: the run folder, score files, prediction stores, overlays."""

from lightning_emseg.callbacks.overlays import Overlays
from lightning_emseg.callbacks.prediction_writer import PredictionWriter
from lightning_emseg.callbacks.run_folder import RunFolder
from lightning_emseg.callbacks.score_files import ScoreFiles

__all__ = ["Overlays", "PredictionWriter", "RunFolder", "ScoreFiles"]
