"""Losses on logits that leave ignored pixels out; each is named by ``class_path`` in an experiment's YAML."""

from data_modules.lazy_exports import lazy_exports
from lightning_emseg.core.short_names import SHORT_NAMES

__getattr__, __dir__, __all__ = lazy_exports(__name__, SHORT_NAMES["losses"])
