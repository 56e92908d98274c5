"""Parts that all rooms share: ranks, checkpoints, weights, short names of classes, error messages."""
