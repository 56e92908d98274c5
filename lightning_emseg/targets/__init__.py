"""Training targets that are derived from masks."""

from lightning_emseg.targets.label_augmentor import CREMI_VOXEL, boundary_labels, tanh_distance_map

__all__ = ["CREMI_VOXEL", "boundary_labels", "tanh_distance_map"]
