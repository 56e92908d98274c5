"""The report page."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lightning_emseg.results.page.document import make_page
from lightning_emseg.results.page.sections import quality_tables
from lightning_emseg.results.runs import read_area_study, read_runs
from tests.support.example_run import (
    KEYS,
    score_row,
    write_quality,
    write_run,
    write_scores,
    write_settings,
    write_study,
)

_VOID = {"meta", "link", "img", "br", "input"}
_EVIL = "<img src=x onerror=alert(1)>\"'&"


class Outline(HTMLParser):
    """What a page is made of; fails where an element is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data + "\n"


def page_of(*folders: Path, max_mb: float = 5) -> Outline:
    return Outline(make_page(read_runs(folders), [], [], max_mb)[0])


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Outline:
    """Two runs with everything."""
    root = tmp_path_factory.mktemp("full")
    runs = [write_run(root / "one"), write_run(root / "two", (0.7, 0.65, 0.85, 0.6), seed=1, lr=1e-3)]
    for name, factor in (("s1", 1.0), ("s2", 2.0)):
        write_study(root / name, factor)
    write_quality(root / "quality")
    studies = [read_area_study(root / name) for name in ("s1", "s2")]
    return Outline(make_page(read_runs(runs), studies, [quality_tables(root / "quality")], 5)[0])


def test_complete_runs_miss_nothing(full: Outline) -> None:
    said = [text for text in full.text.split("\n") if "has no" in text or text.startswith("No ")]
    # Neither run was validated after training.
    assert [text.split(" scores")[0] for text in said] == ["one has no validate", "two has no validate"]


def test_page_is_self_contained(full: Outline) -> None:
    for tag, attributes in full.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("data:", "#")), (tag, name, value[:80])
    assert not any(tag in ("iframe", "object", "embed", "base") for tag, _ in full.elements)


def test_page_is_accessible(full: Outline) -> None:
    assert ("html", {"lang": "en"}) in full.elements
    assert full.headings[0] == 1
    assert full.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(full.headings, full.headings[1:], strict=False))
    assert all(attributes.get("alt") for tag, attributes in full.elements if tag == "img")
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in full.elements if tag == "th")
    assert all(
        attributes.get("tabindex") == "0" for _, attributes in full.elements if attributes.get("class") == "scroll"
    )
    assert all("aria-label" in a or "aria-hidden" in a for tag, a in full.elements if tag == "svg")
    for tag in ("main", "nav", "header", "caption", "figcaption"):
        assert any(found == tag for found, _ in full.elements)


def test_ids_are_unique_and_links_resolve(full: Outline) -> None:
    ids = Counter(attributes["id"] for _, attributes in full.elements if "id" in attributes)
    assert set(ids.values()) == {1}
    targets = [attributes["href"] for tag, attributes in full.elements if tag == "a"]
    assert all(target and target[1:] in ids for target in targets)


def test_differences_of_two_runs_are_shown(full: Outline) -> None:
    # F1 of the second run is 0.1, 0.05, 0.05 and 0 lower: −0.05 on average, with an error of 0.0408 / √4.
    assert "−0.0500 ± 0.0204" in full.text
    assert "Over 4 mosaics that both runs scored." in full.text
    assert "model.init_args.optimizer.init_args.lr" in full.text


def test_runs_share_one_view_of_a_mosaic(full: Outline) -> None:
    mosaics = [attributes for _, attributes in full.elements if "data-mosaic" in attributes]
    assert len(mosaics) == len(KEYS)
    layers = [attributes["data-layer"] for _, attributes in full.elements if "data-layer" in attributes]
    assert layers[:6] == ["image", "truth", "prediction, one", "errors, one", "prediction, two", "errors, two"]
    boxes = [attributes["style"] for _, attributes in full.elements if attributes.get("class") == "box"]
    # Region at (8, 16) of 32 × 48 px in a mosaic of 192 px.
    assert boxes[0] == "left:8.33%;top:4.17%;width:25.00%;height:16.67%"
    assert len(boxes) == 2 * len(KEYS)


def test_papers_values_appear_only_for_their_data(tmp_path: Path) -> None:
    known, other = write_run(tmp_path / "known"), write_run(tmp_path / "other")
    write_settings(other, data="base.Mosaic")
    assert "0.97246 ± 0.08" in page_of(known).text
    assert "The papers print no values for these data." in page_of(other).text
    assert "0.97246" not in page_of(other).text


def test_empty_run_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").write_text("epoch,step\n")
    text = page_of(tmp_path / "run").text
    for said in (
        "has no training log",
        "run has no test scores: run",
        "has no pictures",
        "No attribution: add",
        "No image definition criteria",
        "No config",
        "It has no pictures.",
    ):
        assert said in text, said


def test_runs_on_different_mosaics_are_not_compared(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two")
    write_scores(two, {key: score_row(0.5, foreground=77) for key in KEYS})
    text = page_of(one, two).text
    assert "Not compared: the runs did not score the same mosaics." in text
    assert "test/a (1)" in text
    assert "test/a (2)" in text


def test_mosaics_scored_once_are_left_out(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two")
    write_scores(two, {key: score_row(0.5) for key in KEYS[:3]})
    assert "Over 3 mosaics that both runs scored: 4 and 3 were scored" in page_of(one, two).text


def test_file_contents_never_become_markup(tmp_path: Path) -> None:
    folder = write_run(tmp_path / _EVIL.replace("/", ""))
    write_scores(folder, {f"test/{_EVIL}": {**score_row(0.5), _EVIL: 1.0}})
    (folder / "config.yaml").write_text(f"model: {{class_path: '</pre><script>{_EVIL[0]}'}}\n")
    (folder / "metrics.csv").write_text(f"step,val/</svg>{_EVIL[:9]}\n1,2\n")
    outline = page_of(folder)
    assert not any("onerror" in attributes for _, attributes in outline.elements)
    assert [tag for tag, _ in outline.elements].count("script") == 1
    assert _EVIL in outline.text


def test_missing_recall_curves_are_reported(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    assert "No precision–recall curve" not in page_of(folder).text
    write_scores(folder, {key: score_row(0.5) for key in KEYS}, recall=False)
    text = page_of(folder).text
    assert "No precision–recall curve of run" in text
    assert "F1 by threshold" in text


def test_partially_scored_mosaics_are_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    write_scores(folder, {})
    path = folder / "scores-test.json"
    partial = '"partial": {"test/z": {"pixels_seen": 5, "pixels": 9000}}'
    path.write_text(path.read_text().replace('"partial": {}', partial))
    assert "test/z: 5 of 9,000 pixels seen" in page_of(folder).text


def test_overlays_stand_in_for_error_maps(tmp_path: Path) -> None:
    from PIL import Image

    folder = write_run(tmp_path / "run")
    for name in ("test-test-a", "validate-val-b"):
        Image.new("RGB", (30, 10), (1, 2, 3)).save(folder / "figures" / f"{name}.png")
    shown = [attributes["alt"] for tag, attributes in page_of(folder).elements if tag == "img"]
    assert not any("test-test-a" in str(alt) for alt in shown)
    assert any("validate-val-b" in str(alt) for alt in shown)


def test_reduced_pictures_are_reported(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    size = make_page(read_runs([folder]), [], [], 5)[1].size_mb
    assert "reduced to fit" not in page_of(folder).text
    assert make_page(read_runs([folder]), [], [], size)[1].size_mb <= size
