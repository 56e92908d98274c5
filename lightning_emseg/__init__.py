"""Segmentation of huge electron-microscopy mosaics with PyTorch Lightning."""

__version__ = "0.2.0"
"""Version of the code, which packaging reads here; metadata of an editable installation may be older."""
