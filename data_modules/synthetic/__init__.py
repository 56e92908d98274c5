"""Synthetic electron-microscopy mosaics with membrane masks."""

from data_modules.synthetic.mosaic import SyntheticMosaic

__all__ = ["SyntheticMosaic"]
