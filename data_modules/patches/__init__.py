"""Training patches and evaluation tiles of mosaics: positions, splits, datasets and loaders."""
