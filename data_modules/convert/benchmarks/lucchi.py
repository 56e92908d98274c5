"""Lucchi++: mitochondria in mouse hippocampus, FIB-SEM, 5 nm isotropic."""

from pathlib import Path

from data_modules.convert.benchmarks.casser import WHITE, volumes
from data_modules.convert.labels import LabelRule
from data_modules.convert.volume_samples import write_volumes

PIXEL_SIZE_NM = (5.0, 5.0, 5.0)
SECTIONS = {"train": 165, "test": 165}


def convert_lucchi(root: Path, out: Path, overwrite: bool = False) -> list[str]:
    """Convert Lucchi++ (165 sections of 768 × 1024 px for training and for testing each, 5 nm isotropic).

    Sections Train_In/mask0000.png, … are matched with Train_Out/0.png, … by number and become train/lucchi with the
    binary label mitochondrion (255 in the files); Test_In and Test_Out become test/lucchi.

    Args:
        root: Folder that holds Train_In, Train_Out, Test_In and Test_Out, or the folder Lucchi++ with them.
        out: The store to write into, made where it does not exist.
        overwrite: Replace samples of the same name.

    Returns:
        ``<split>/<sample>`` of everything written.

    Raises:
        UserError: if folders or sections are missing, or labels do not match images; the message names them.
    """
    rule = LabelRule("binary", "bright", threshold=WHITE)
    return write_volumes(out, volumes(root, "Lucchi++", SECTIONS, PIXEL_SIZE_NM, rule), "lucchi", overwrite=overwrite)
