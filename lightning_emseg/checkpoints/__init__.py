"""Checkpoints: written atomically, read without running code, compared with what they are loaded into."""

from lightning_emseg.checkpoints.hashes import file_hash, weights_hash
from lightning_emseg.checkpoints.reading import check_matches, load_weights, read

__all__ = ["check_matches", "file_hash", "load_weights", "read", "weights_hash"]
