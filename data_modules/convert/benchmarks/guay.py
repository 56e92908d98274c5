"""Platelets of Guay et al. (2021, https://doi.org/10.1038/s41598-021-81590-0): seven classes in SBF-SEM volumes."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data_modules.convert.benchmarks.layout import find_root
from data_modules.convert.decode import Pixels
from data_modules.convert.labels import IGNORE, Label, LabelRule
from data_modules.convert.volume import parse_volume_pixel_size
from data_modules.convert.volume_samples import Rule, VolumeLabel, VolumeSample, write_volumes
from data_modules.convert.volume_stacks import open_stack
from data_modules.store import LabelInfo

CLASSES = {
    0: "background",
    1: "cell",
    2: "mitochondrion",
    3: "alpha granule",
    4: "canalicular vessel",
    5: "dense granule",
    6: "dense granule core",
}
"""As the data set's own page and torch-em number them; CEM500K's configuration has the names of 3 and 4 swapped."""
SPLITS = {"train": "train", "val": "eval", "test": "test"}
"""Beginning of the files' names."""


@dataclass(frozen=True)
class WithinCells:
    """A rule after which background counts nowhere, for a volume in which only some cells are annotated."""

    rule: LabelRule

    @property
    def info(self) -> LabelInfo:
        """That of the rule."""
        return self.rule.info

    def apply(self, pixels: Pixels, what: str) -> Label:
        """As the rule, with 255 where it gives 0."""
        label = self.rule.apply(pixels, what)
        label.pixels[label.pixels == 0] = IGNORE
        return Label(label.pixels, {**label.record, "rule": "values unchanged, 0 ignored"}, label.notes)


def convert_guay(root: Path, out: Path, pixel_size_nm: str = "40,10,10", overwrite: bool = False) -> list[str]:
    """Convert the platelets of Guay et al., three volumes with the label organelle of kind classes.

    The layout is that of platelet_data_1219.zip: {train,eval,test}-images.tif and -labels.tif of 16 bit, which become
    train, val and test. Images become 8 bit by the range of each volume. In test only some cells are annotated, so its
    background is ignored (CEM500K too scores only within annotated cells).

    Args:
        root: Folder that holds the six files, or the folder platelet_data with them.
        out: The store to write into, made where it does not exist.
        pixel_size_nm: Sides of a pixel as Z,Y,X in nanometers; the data set's page says approximately 40,10,10.
        overwrite: Replace samples of the same name.

    Returns:
        ``<split>/<sample>`` of everything written.

    Raises:
        UserError: if files are missing, truncated or of different shapes, or have other values; the message names them.
    """
    size = parse_volume_pixel_size(pixel_size_nm)
    needed = [f"{start}-{part}.tif" for start in SPLITS.values() for part in ("images", "labels")]
    root = find_root(root, needed, ("platelet_data",), f"{', '.join(needed)} (platelet_data_1219.zip)")
    values = LabelRule("classes", classes=CLASSES)
    samples = []
    for split, start in SPLITS.items():
        rule: Rule = WithinCells(values) if split == "test" else values
        label = VolumeLabel("organelle", partial(open_stack, str(root / f"{start}-labels.tif"), True), rule)
        image = partial(open_stack, str(root / f"{start}-images.tif"))
        samples.append(VolumeSample(split, "guay", image, size, (label,)))
    return write_volumes(out, samples, "guay", "range", overwrite)
