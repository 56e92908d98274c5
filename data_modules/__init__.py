"""Mosaic stores, patch streaming, conversion and synthesis of electron-microscopy data."""
