"""Sweeps of W&B: read and drawn by W&B's own search package, and tried out small without its server."""
