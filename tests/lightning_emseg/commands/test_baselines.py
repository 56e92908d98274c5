"""`emseg baselines`: thresholds that were found by brute force."""

from pathlib import Path

import numpy as np
import pytest

from lightning_emseg.commands import main
from lightning_emseg.commands.baselines import baseline_tables
from tests.support import tiny


@pytest.mark.parametrize("dark", [True, False])
def test_baselines_by_brute_force(tmp_path: Path, dark: bool) -> None:
    store = tmp_path / "s.zarr"
    made = {}
    for index, key in enumerate(("train/a", "train/b", "test/a", "test/b")):
        image, mask = tiny.content((60 + 7 * index, 50), index)
        made[key] = (image if dark else 255 - image, mask)
        tiny.write_sample(store, key, *made[key])

    def f1(key: str, grey: int, below: bool) -> float:
        image, mask = made[key]
        used = mask != 255
        predicted = image <= grey if below else image >= grey
        hits = np.sum(predicted & (mask == 1))
        wrong = np.sum(used & (predicted != (mask == 1)))
        return float(2 * hits / (2 * hits + wrong))

    tables = baseline_tables(store, "test", "train", "membrane")
    nothing, best = tables.values()
    assert nothing.rows["test/a"]["membrane_f1"] == 0
    assert nothing.rows["test/a"]["membrane_precision"] == 1
    assert nothing.rows["test/a"]["tp"] + nothing.rows["test/a"]["fp"] == 0
    name = list(tables)[1]
    grey = int(name.rpartition(" ")[2].rstrip(")"))
    assert ("dark" if dark else "bright") in name
    mean = {
        (level, below): np.mean([f1(key, level, below) for key in ("train/a", "train/b")])
        for level in range(256)
        for below in (True, False)
    }
    assert mean[grey, dark] == pytest.approx(max(mean.values()), abs=1e-12)
    for key in ("test/a", "test/b"):
        assert best.rows[key]["membrane_f1"] == pytest.approx(f1(key, grey, dark), abs=1e-12)


def test_baselines_print_both_tables(tiny_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["baselines", str(tiny_store)])
    shown = capsys.readouterr().out
    assert "all background" in shown
    assert "best global threshold (dark" in shown
    assert "test/m2" in shown


def test_missing_store_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"^error: no store at {tmp_path / 'none.zarr'}"):
        main(["baselines", str(tmp_path / "none.zarr")])
