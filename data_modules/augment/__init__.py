"""Keyed augmentation on the device: images, planes, volumes and pairs of views."""
