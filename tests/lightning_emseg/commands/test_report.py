from pathlib import Path

import pytest

from lightning_emseg.commands import main
from tests.support.example_run import write_quality, write_run, write_study


def test_writes_a_page_and_says_its_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(write_run(tmp_path / name, seed=seed)) for seed, name in enumerate(("one", "two"))]
    write_study(tmp_path / "study")
    write_quality(tmp_path / "quality")
    out = tmp_path / "new" / "page.html"
    extra = ["--studies", f'["{tmp_path / "study"}"]', "--quality", f'["{tmp_path / "quality"}"]']
    main(["report", *runs, "--out", str(out), *extra])
    said = capsys.readouterr().out
    assert f"{out} (0." in said
    assert "MB together" in said
    html = out.read_text()
    assert html.startswith("<!doctype html>")
    assert "study study" in html
    assert "Ratio to the original per pixel" in html


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--studies", '["nowhere"]'], r"nowhere has no summary\.json: give --studies a folder"),
        (["--quality", '["nowhere"]'], r"nowhere has no quality\.csv: give --quality a folder"),
        (["--max-mb", "0"], "--max-mb 0 is too little"),
    ],
)
def test_mistakes_end_with_one_sentence(tmp_path: Path, extra: list[str], message: str) -> None:
    run = write_run(tmp_path / "run")
    with pytest.raises(SystemExit, match=message):
        main(["report", str(run), "--out", str(tmp_path / "page.html"), *extra])


def test_bad_run_and_output_paths_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="is not a folder"):
        main(["report", str(tmp_path / "nowhere"), "--out", str(tmp_path / "page.html")])
    with pytest.raises(SystemExit, match="cannot be written"):
        main(["report", str(run), "--out", str(tmp_path / "file" / "page.html")])


def test_a_note_is_printed_for_a_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    (run / "scores-test.json").write_text("{")
    main(["report", str(run), "--out", str(tmp_path / "page.html")])
    assert "note: " in capsys.readouterr().out
    assert "scores-test.json is damaged" in (tmp_path / "page.html").read_text()
