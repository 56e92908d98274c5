"""The tools that every benchmark relies on: fair turns, memory of processes, and rows that survive a broken case."""

import json
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from data_modules.store import read
from tests.bench import harness, run
from tests.bench.harness import Row


def test_candidates_take_turns_and_none_is_always_first() -> None:
    calls: list[str] = []
    seconds = harness.interleave({name: lambda name=name: calls.append(name) for name in "abc"}, repeats=5, warmup=1)  # type: ignore[misc]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 5, "b": 5, "c": 5}
    rounds = [calls[first : first + 3] for first in range(0, 18, 3)]
    assert all(sorted(called) == ["a", "b", "c"] for called in rounds)
    assert [called[0] for called in rounds] == ["a", "b", "c", "a", "b", "c"]


def test_seconds_are_those_of_the_call() -> None:
    seconds = harness.interleave({"slow": lambda: time.sleep(0.05), "quick": lambda: None}, repeats=3)
    assert 0.05 <= harness.median(seconds["slow"]) < 0.15
    assert harness.median(seconds["quick"]) < 0.01


def test_memory_of_a_command_is_its_own() -> None:
    # The parent's own high-water mark, which a child inherits in `ru_maxrss`, must not show.
    held = np.ones(600 << 20, np.uint8)
    hold = "import time; held = bytearray(b'x') * (200 << 20); time.sleep(0.5)"
    memory = harness.memory_of([sys.executable, "-c", hold], interval=0.02)
    assert held[-1] == 1
    assert 200 < memory.peak_mib < 300
    assert max(mib for _, mib in memory.trace) <= memory.peak_mib
    times = [seconds for seconds, _ in memory.trace]
    assert times == sorted(times)
    assert times[-1] >= 0.4
    with pytest.raises(RuntimeError, match="status 3: no such"):
        harness.memory_of([sys.executable, "-c", "print('no such'); raise SystemExit(3)"])


def test_synthetic_micrograph_compresses_like_a_real_one() -> None:
    shape = (1500, 1100)
    image, mask = harness.synthetic_image(shape, seed=3), harness.synthetic_mask(shape, seed=3)
    assert image.shape == mask.shape == shape
    assert image[mask == 1].mean() < image[mask == 0].mean() - 20
    assert 0.05 < mask.mean() < 0.3
    assert len(zlib.compress(image.tobytes(), 1)) > 0.85 * image.size
    assert len(zlib.compress(mask.tobytes(), 1)) < 0.1 * mask.size


def test_store_holds_what_the_functions_make(tmp_path: Path) -> None:
    sample = harness.store_of(tmp_path / "s.zarr", (3000, 700), "test/a", seed=1)
    everything = (slice(0, 3000), slice(0, 700))
    np.testing.assert_array_equal(read(sample.image, everything)[:2048], harness.synthetic_image((2048, 700), 1))
    np.testing.assert_array_equal(read(sample.label("membrane"), everything), harness.synthetic_mask((3000, 700), 1))
    assert harness.store_of(tmp_path / "s.zarr", (100, 100), "test/b", label=None).labels == {}


def test_a_broken_case_costs_its_own_rows_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Row("reader", "image", 1.5, "ms", "zarr-python", 5.25, "≥ 5 ×", True, "in the page cache")
    slow = Row("stitching", "tiles", 2.0, "s", "forward passes", 1.5, "≤ 1.1 ×", False)

    def measure(case: str, out: Path) -> list[Row]:
        if case == "training":
            raise RuntimeError("case training ended with status 1")
        return [good] if case == "reader" else [slow]

    monkeypatch.setattr(run, "measure", measure)
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "reader,training,stitching", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="case training ended with status 1"):
        run.main()
    content = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert [row["case"] for row in content["rows"]] == ["reader", "stitching"]
    assert content["rows"][0]["ratio"] == 5.25
    assert content["machine"]["cores"] >= 1
    table = (tmp_path / "out" / "bench.md").read_text().splitlines()
    assert "| reader | image | 1.50 ms | zarr-python | 5.25 × | ≥ 5 × | yes | in the page cache |" in table
    assert "| stitching | tiles | 2.00 s | forward passes | 1.50 × | ≤ 1.1 × | **no** |  |" in table
    assert set(table[:4]) <= set(capsys.readouterr().out.splitlines())


def test_unknown_case_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "readr"])
    with pytest.raises(SystemExit):
        run.main()
    assert "no case readr" in capsys.readouterr().err
