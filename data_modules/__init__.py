"""Mosaic stores, patch streaming, conversion and synthesis of electron-microscopy data."""

from data_modules.lazy_exports import lazy_exports
from data_modules.short_names import SHORT_NAMES

__getattr__, __dir__, __all__ = lazy_exports(__name__, *SHORT_NAMES.values())
