"""Segmentations compared: Rand and information scores of cells, from sparse tables of how they overlap."""
