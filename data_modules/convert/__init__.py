"""Converters from ordinary image files to the mosaic store, one function a layout."""

from data_modules.convert.folder import convert_folder
from data_modules.convert.isbi2012 import convert_isbi2012
from data_modules.convert.urisc import convert_urisc

__all__ = ["convert_folder", "convert_isbi2012", "convert_urisc"]
