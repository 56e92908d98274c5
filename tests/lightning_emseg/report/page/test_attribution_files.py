"""Attribution files of the report."""

from pathlib import Path

import pytest

from lightning_emseg.report.page.attribution_files import read_study
from lightning_emseg.report.page.document import make_page
from lightning_emseg.report.page.run_files import read_runs
from tests.support.example_run import write_run, write_study


def test_attribution_of_volumes_is_shown_in_cubic_nanometers(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    columns = "epoch,k,outcome,pixels,S_nm3,S_nm3_se,share,share_se,S_xy_nm2,S_xy_nm2_se,share_xy,share_xy_se"
    row = "1,0.01,TP,4,1280.0,64.0,0.25,0.01,320.0,16.0,0.5,0.01"
    (folder / "attribution" / "summary-fit.csv").write_text(f"{columns}\n{row}\n")
    (run,) = read_runs([folder])
    (area,) = run.attribution[0].areas
    assert (area.size, area.se, area.extent.sign) == (1280, 64, "nm³")
    assert not run.notes
    html = make_page([run], [], [], 5).html
    assert "Sₖ (nm³), mean ± SE" in html
    assert "1,280" in html


def test_studies_are_read(tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    study = read_study(tmp_path / "study")
    assert [area.size for area in study.curve if area.outcome == "TP"] == pytest.approx([1e5, 1e4, 1e3, 1e2])
    assert len(study.panels) == 1
