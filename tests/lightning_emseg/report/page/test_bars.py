"""Bar charts of mosaics."""

import math
import re
from xml.etree import ElementTree

import pytest

from lightning_emseg.report.page.bars import mosaic_bars


def test_bar_lengths_are_proportional_to_values() -> None:
    values = {"one": {"a": 0.8, "b": 0.4}, "two": {"a": math.nan, "b": 0.2}}
    bars = mosaic_bars("F1", values, {"one": 0, "two": 1})
    widths = [float(e.attrib["width"]) for e in ElementTree.fromstring(bars.svg).iter("rect")]
    assert widths[1] == 0
    assert [width / widths[0] for width in (widths[2], widths[3])] == pytest.approx([0.5, 0.25], abs=0.01)
    assert "–" in bars.svg
    assert [name for _, name in bars.legend] == ["1: one", "2: two"]


def test_runs_keep_colours_without_other_scores() -> None:
    bars = mosaic_bars("F1", {"third": {"a": 0.8}, "fourth": {"b": 0.7}}, {"first": 0, "third": 2, "fourth": 3})
    assert re.findall(r'<g class="(c\d)">', bars.svg) == ["c2", "c3"]
    assert [name for _, name in bars.legend] == ["3: third", "4: fourth"]
