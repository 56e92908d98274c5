"""Kasthuri++: mitochondria in mouse cortex, ssSEM, 3 × 3 × 30 nm."""

from pathlib import Path

from data_modules.convert.benchmarks.casser import WHITE, volumes
from data_modules.convert.labels import LabelRule
from data_modules.convert.volume_samples import write_volumes

PIXEL_SIZE_NM = (30.0, 3.0, 3.0)
SECTIONS = {"train": 85, "test": 75}
OUTSIDE = 2
"""Value of the masks where there is no tissue but black padding."""


def convert_kasthuri(root: Path, out: Path, overwrite: bool = False) -> list[str]:
    """Convert Kasthuri++ (85 sections of 1463 × 1613 px for training, 75 of 1334 × 1553 px for testing).

    Sections of Train_In and Train_Out are matched by number and become train/kasthuri with the binary label
    mitochondrion (255 in the files); Test_In and Test_Out become test/kasthuri. The black padding around the tissue
    (2 in the masks) is ignored; CEM500K's own preparation counts it as background.

    Args:
        root: Folder that holds Train_In, Train_Out, Test_In and Test_Out, or the folder Kasthuri++ with them.
        out: The store to write into, made where it does not exist.
        overwrite: Replace samples of the same name.

    Returns:
        ``<split>/<sample>`` of everything written.

    Raises:
        UserError: if folders or sections are missing, or labels do not match images; the message names them.
    """
    rule = LabelRule("binary", "bright", threshold=WHITE, ignore_value=OUTSIDE)
    samples = volumes(root, "Kasthuri++", SECTIONS, PIXEL_SIZE_NM, rule)
    return write_volumes(out, samples, "kasthuri", overwrite=overwrite)
