"""Callbacks: what a run writes and shows, how it is stopped and goes on."""

from data_modules.lazy_exports import lazy_exports
from lightning_emseg.core.short_names import SHORT_NAMES

__all__ = [*SHORT_NAMES["callbacks"]]

__getattr__, __dir__ = lazy_exports(__name__, SHORT_NAMES["callbacks"])
