"""Checks name what they refuse, and let everything else pass."""

from pathlib import Path

import numpy as np
import pytest

from data_modules import checks
from data_modules.errors import UserError
from data_modules.store import LabelInfo, MosaicStore, MosaicView, SampleWriter
from tests.support.mosaic_checks import grey, views, write_mosaic


def test_counts_and_sizes() -> None:
    checks.positive(a=1, b=[1, 2], c=None)
    with pytest.raises(UserError, match=r"data\.b must be at least 1, got \[4, 0\]"):
        checks.positive(a=1, b=[4, 0])


def test_fractions() -> None:
    checks.fractions(a=0.0, b=0.999)
    for wrong in (1.0, -1e-9, float("nan")):
        with pytest.raises(UserError, match=r"data\.b must be at least 0 and below 1"):
            checks.fractions(a=0.5, b=wrong)


def test_mosaics_of_patch_size_are_large_enough(tmp_path: Path) -> None:
    for number in range(7):
        write_mosaic(tmp_path / "s", f"train/m{number}", grey((8, 9)))
    mosaics = views(tmp_path / "s", label=None)
    checks.large_enough(mosaics, (8, 9), allowed=False)
    checks.large_enough(mosaics, (9, 9), allowed=True)
    with pytest.raises(UserError, match=r"7 training mosaics .* train/m0 \(8, 9\), .*--data\.allow_small") as caught:
        checks.large_enough(mosaics, (9, 9), allowed=False)
    assert "m4" in str(caught.value)
    assert "m5" not in str(caught.value), "a list of hundreds helps nobody"


def test_foreground_is_that_of_the_chosen_classes(tmp_path: Path) -> None:
    values = np.array([[0, 1, 255]], np.uint8)
    with SampleWriter(tmp_path / "s", "train", "a", values.shape, (1, 1)) as sample:
        sample.image.write(values)
        sample.add_label("organelles", LabelInfo("classes", {0: "none", 1: "nucleus", 2: "vesicle"})).write(values)
        sample.add_label("empty", LabelInfo("binary")).write(values // 255 * np.uint8(255))
        sample.add_label("cells", LabelInfo("instances"), np.uint32).write(np.zeros((1, 3), np.uint32))

    def view(label: str | None, foreground: list[str | int] | None = None) -> list[MosaicView]:
        return [MosaicView.of(MosaicStore(tmp_path / "s").sample("train/a"), label, foreground or [])]

    checks.has_foreground(view("organelles", ["nucleus", "vesicle"]), allowed=False)
    # Ids are not counted while writing, so nothing can be said about them; neither is there anything without a label.
    checks.has_foreground(view("cells") + view(None), allowed=False)
    for mosaics in (view("organelles", ["vesicle"]), view("empty")):
        with pytest.raises(UserError, match=r"no foreground at all in the masks of train/a"):
            checks.has_foreground(mosaics, allowed=False)
        checks.has_foreground(mosaics, allowed=True)
