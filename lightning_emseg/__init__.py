"""Segmentation of huge electron-microscopy mosaics with PyTorch Lightning."""
