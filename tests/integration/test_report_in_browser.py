"""The page of ``emseg report`` in a real browser: by mouse and keyboard, on a phone, without scripts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_emseg.commands.report import report
from tests.support import chromium
from tests.support.example_run import write_run, write_study

pytestmark = pytest.mark.skipif(chromium.EXECUTABLE is None, reason="Chromium is not installed")
_TABLE = "#scores table:has(tfoot)"
_CELLS = f"[...document.querySelector('{_TABLE}').tBodies[0].rows].map(row => row.cells[COLUMN].textContent)"
_VIEW = "document.querySelector('.view:not([hidden])')"
"""What is open of the first mosaic."""
_OPACITIES = f"[...{_VIEW}.querySelectorAll('.layer')].map(layer => Number(layer.style.opacity))"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    # F1 0.09 and 0.1 would be sorted the other way round as text of other lengths; "1.0" would come before "0.9…".
    runs = [write_run(root / "one", (0.8, 1.0, 0.09, 0.6)), write_run(root / "two", (0.7, 0.6, 0.9, 0.1), seed=1)]
    write_study(root / "study")
    report(runs, root / "page.html", studies=[root / "study"])
    return root / "page.html"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    assert chromium.EXECUTABLE is not None
    with chromium.browser(chromium.EXECUTABLE, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(started: chromium.Browser) -> chromium.Browser:
    started.complaints.clear()
    started.requests.clear()
    return started


def cells(browser: chromium.Browser, column: int) -> list[str]:
    found = browser.evaluate(_CELLS.replace("COLUMN", str(column)))
    assert isinstance(found, list)
    return found


def test_page_opens_from_disk_without_further_requests(browser: chromium.Browser, page: Path) -> None:
    browser.open(page)
    assert browser.evaluate("document.documentElement.classList.contains('js')") is True
    assert browser.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)") is True
    assert browser.complaints == []
    assert browser.requests == [page.as_uri()]


def test_the_browser_would_have_noticed_errors(browser: chromium.Browser, page: Path) -> None:
    broken = page.with_name("broken.html")
    broken.write_text(page.read_text().replace('"use strict";', '"use strict"; nothing();'))
    browser.open(broken)
    assert any("nothing is not defined" in said for said in browser.complaints)
    broken.write_text(page.read_text().replace("<main", "<img src='https://example.org/x.png' alt='x'><main"))
    browser.open(broken)
    assert any("Content Security Policy" in said for said in browser.complaints)


def test_slider_moves_by_keyboard_and_shows_layers(browser: chromium.Browser, page: Path) -> None:
    browser.open(page)
    layers = 6
    assert browser.evaluate(_OPACITIES) == [1, 0, 0, 0, 0, 0]
    browser.evaluate(f"{_VIEW}.querySelector('input').focus()")
    browser.press("ArrowRight", times=2)
    assert browser.evaluate(_OPACITIES) == [1, 0.5, 0, 0, 0, 0]
    assert browser.evaluate("document.activeElement.getAttribute('aria-valuetext')") == "image and truth"
    browser.press("ArrowRight", times=2)
    assert browser.evaluate(_OPACITIES) == [1, 1, 0, 0, 0, 0]
    browser.press("End")
    assert browser.evaluate("document.activeElement.value") == str(layers - 1)
    assert browser.evaluate("document.activeElement.getAttribute('aria-valuetext')") == "errors, two"
    hidden = f"[...{_VIEW}.querySelectorAll('.layer')].map(layer => layer.ariaHidden)"
    assert browser.evaluate(hidden) == ["true"] * (layers - 1) + ["false"]


def test_picture_of_the_chosen_layer_is_shown(browser: chromium.Browser, page: Path, tmp_path: Path) -> None:
    from PIL import Image

    browser.open(page)
    seen = []
    for number in range(1, 5):
        browser.click(f".view:not([hidden]) .layer-names button:nth-child({number})")
        # Away from the boxes of worst regions.
        box = f"{_VIEW}.querySelector('.stage').getBoundingClientRect()"
        place = browser.evaluate(f"[{box}.right - 40, {box}.bottom - 40]")
        browser.screenshot(tmp_path / "seen.png")
        with Image.open(tmp_path / "seen.png") as picture:
            seen.append(picture.convert("L").getpixel((round(place[0]), min(round(place[1]), 890))))
    # Greys of the example's image, truth, probability and errors of the first run.
    assert seen == pytest.approx([90, 130, 170, 210], abs=3)


def test_box_zooms_to_region_and_keeps_layer(browser: chromium.Browser, page: Path) -> None:
    browser.open(page)
    browser.click(".view:not([hidden]) .layer-names button:nth-child(4)")
    browser.click(".view:not([hidden]) .box")
    assert "worst region 1: y 8 – 40, x 16 – 64 px" in browser.evaluate(f"{_VIEW}.querySelector('h4').textContent")
    assert browser.evaluate(_OPACITIES) == [1, 1, 1, 1]
    assert browser.evaluate(f"{_VIEW}.querySelector('[aria-pressed=true]').textContent") == "errors"
    assert browser.evaluate("document.activeElement.tagName") == "SELECT"


def test_tables_sort_by_number_in_both_directions(browser: chromium.Browser, page: Path) -> None:
    browser.open(page)
    header = f"{_TABLE} thead th:nth-child(2)"
    direction = f"document.querySelector('{header}').ariaSort"
    assert cells(browser, 1) == ["0.8000", "1.0000", "0.0900", "0.6000"]
    browser.click(f"{header} button")
    assert cells(browser, 1) == ["0.0900", "0.6000", "0.8000", "1.0000"]
    assert cells(browser, 0) == ["test/c", "test/d", "test/a", "test/b"]
    assert browser.evaluate(direction) == "ascending"
    browser.press("Enter")
    assert cells(browser, 1) == ["1.0000", "0.8000", "0.6000", "0.0900"]
    assert browser.evaluate(direction) == "descending"
    browser.press("Enter")
    assert cells(browser, 1) == ["0.8000", "1.0000", "0.0900", "0.6000"]
    assert browser.evaluate(f"document.querySelector('{_TABLE}').tFoot.textContent").strip().startswith("mean ± SE")


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_nothing_but_tables_is_wider_than_the_window(browser: chromium.Browser, page: Path, width: int) -> None:
    browser.open(page, width, 700)
    browser.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    wide = f"""[...document.querySelectorAll('body *')]
        .filter(one => !one.closest('.scroll, svg, .skip') && one.getBoundingClientRect().right > {width} + 0.5)
        .map(one => one.outerHTML.slice(0, 80))"""
    assert browser.evaluate(wide) == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_every_control_is_reached_by_tab_visibly(browser: chromium.Browser, page: Path) -> None:
    browser.open(page)
    controls = "document.querySelectorAll('a[href], button, input, select, summary, .scroll').length"
    reached, outlined = set(), 0
    for _ in range(60):
        browser.press("Tab")
        name, style = browser.evaluate(
            "[document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.add(name)
        outlined += style != "none"
    assert browser.evaluate(controls) > 60
    assert outlined == 60
    assert {"A", "SUMMARY", "DIV", "BUTTON"} <= reached


def test_open_layers_are_printed_side_by_side(browser: chromium.Browser, page: Path) -> None:
    browser.open(page)
    assert shown_layers(browser) < 24
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        # Four mosaics with six layers each.
        assert shown_layers(browser) == 24
        places = browser.evaluate(f"[...{_VIEW}.querySelectorAll('.layer')].map(one => one.getBoundingClientRect().x)")
        assert len(set(places)) > 1
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")


def test_charts_follow_the_colour_scheme(browser: chromium.Browser, page: Path) -> None:
    browser.open(page)
    colour = "getComputedStyle(document.querySelector('svg.plot text')).fill"
    found = []
    try:
        for scheme in ("light", "dark"):
            browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            found.append(browser.evaluate(colour))
    finally:
        browser.call("Emulation.setEmulatedMedia", features=[])
    assert found == ["rgb(27, 27, 31)", "rgb(236, 236, 240)"]
    charts = browser.evaluate("document.querySelectorAll('figure.chart svg.plot[aria-label]').length")
    assert charts == browser.evaluate("document.querySelectorAll('figure.chart').length") > 5


def test_without_scripts_everything_is_there(browser: chromium.Browser, page: Path) -> None:
    silent = page.with_name("silent.html")
    silent.write_text(page.read_text().replace("script-src 'unsafe-inline'", "script-src 'none'"))
    browser.open(silent)
    assert browser.evaluate("document.documentElement.classList.contains('js')") is False
    assert shown_layers(browser) == browser.evaluate("document.querySelectorAll('.layer').length")


def shown_layers(browser: chromium.Browser) -> int:
    visible = "one.checkVisibility({opacityProperty: true})"
    return int(browser.evaluate(f"[...document.querySelectorAll('.layer')].filter(one => {visible}).length"))
