"""Helpers that tests of several rooms share, and where the project and its real data are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
DATA = ROOT.parent / "shared" / "data"
"""Folder of real images, which is not part of the project; tests that need it skip where it is absent."""
