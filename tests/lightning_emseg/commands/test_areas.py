"""`emseg areas`: studies side by side."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_emseg.commands import main
from tests.support.linear_network import table
from tests.support.undrawn import undrawn


def test_ratios_and_their_errors_follow_from_the_points(image_studies: Path, tmp_path: Path) -> None:
    main(["areas", str(image_studies / "one"), str(image_studies / "two"), "--out", str(tmp_path / "c")])
    rows = {(row["study"], row["outcome"], float(row["k"])): row for row in table(tmp_path / "c" / "areas.csv")}
    for k in (0.01, 0.05, 0.1):
        mean, error = {}, {}
        for name in ("one", "two"):
            areas = [float(row[f"S_{k:g}_nm2"]) for row in table(image_studies / name / "points.csv")]
            mean[name], error[name] = np.mean(areas), np.std(areas, ddof=1) / math.sqrt(len(areas))
        ratio = mean["two"] / mean["one"]
        expected = ratio * math.sqrt((error["one"] / mean["one"]) ** 2 + (error["two"] / mean["two"]) ** 2)
        assert float(rows["two", "all", k]["ratio"]) == pytest.approx(ratio)
        assert float(rows["two", "all", k]["ratio_se"]) == pytest.approx(expected)
        assert float(rows["one", "all", k]["ratio"]) == 1
        assert rows["one", "all", k]["ratio_se"] == ""
    row = rows["two", "all", 0.01]
    assert (row["nm_per_px"], row["mosaic_nm_per_px"]) == ("2 × 1.5", "4 × 3")
    assert (row["window_px"], row["window_nm"]) == ("32 × 32", "128 × 96")
    assert min(Image.open(tmp_path / "c" / "areas.png").size) > 300


def test_differing_settings_are_said(image_studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with undrawn():
        main(
            [
                "areas",
                str(image_studies / "one"),
                str(image_studies / "two"),
                "--out",
                str(tmp_path),
                "--names",
                "[A,B]",
            ]
        )
    warned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not comparable")]
    assert len(warned) == 2
    assert "method.baseline is zero in A, noise in B" in warned[0]
    assert "resize is None in A, [64, 64] in B" in warned[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["one", "none"], "holds no study"), (["one", "one"], "2 different names for 2 studies")],
)
def test_mistakes_are_one_message(image_studies: Path, tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["areas", *(str(image_studies / word) for word in words), "--out", str(tmp_path)])
    assert message in str(caught.value.code)


def test_unfinished_studies_are_refused(image_studies: Path, tmp_path: Path) -> None:
    unfinished = tmp_path / "half"
    unfinished.mkdir()
    (unfinished / "plan.json").write_text((image_studies / "one" / "plan.json").read_text())
    with pytest.raises(SystemExit) as caught:
        main(["areas", str(image_studies / "one"), str(unfinished), "--out", str(tmp_path)])
    assert "not finished" in str(caught.value.code)
