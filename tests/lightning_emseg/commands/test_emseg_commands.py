"""The command `emseg`: arguments, inspect, verify, synthesize, baselines."""

import os
from pathlib import Path

import numpy as np
import pytest
import zarr

from data_modules.store import MosaicStore
from lightning_emseg import commands
from lightning_emseg.commands import main, normalised
from lightning_emseg.commands.baselines import baseline_tables
from tests.support import tiny


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--pixel-size-nm", "4"], ["--pixel_size_nm", "4"]),
        (["--pixel-size-nm=4-5"], ["--pixel_size_nm=4-5"]),
        (["--overwrite"], ["--overwrite=true"]),
        (["--overwrite", "--seed", "3"], ["--overwrite=true", "--seed", "3"]),
        (["--overwrite", "false"], ["--overwrite", "false"]),
        (["data", "inspect", "my-store.zarr"], ["data", "inspect", "my-store.zarr"]),
        (["--seed", "-3"], ["--seed", "-3"]),
        (["--help"], ["--help"]),
        ([], []),
    ],
)
def test_options_may_have_dashes_and_switches_no_value(given: list[str], expected: list[str]) -> None:
    assert normalised(given) == expected


def test_without_a_command_there_is_help_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "data" in capsys.readouterr().err


def test_inspect_shows_what_a_store_holds(tiny_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "inspect", str(tiny_store)])
    shown = capsys.readouterr().out
    assert "test: 3 samples" in shown
    assert "m0: 133 × 97 px, 4 × 4 nm" in shown
    mask = np.asarray(zarr.open_array(tiny_store / "test/m0/labels/membrane/0", mode="r")[:])
    assert f"foreground {np.mean(mask == 1):.2%}" in shown
    assert f"ignored {np.mean(mask == 255):.2%}" in shown


def test_verify_tells_by_its_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "s.zarr"
    tiny.make_store(store, {"train": ((60, 70), (50, 50))})
    with pytest.raises(SystemExit) as caught:
        main(["data", "verify", str(store)])
    assert caught.value.code == 0
    assert "sound" in capsys.readouterr().out
    shard = next(path for path in (store / "train/m1/0/c").rglob("*") if path.is_file())
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        main(["data", "verify", str(store)])
    assert caught.value.code == 1
    shown = capsys.readouterr().out
    assert "image of train/m1" in shown
    assert str(store / "train/m1/0") in shown
    assert "train/m0" not in shown


@pytest.mark.parametrize("command", [["data", "inspect"], ["data", "verify"], ["baselines"]])
def test_missing_store_is_one_message(tmp_path: Path, command: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, str(tmp_path / "none.zarr")])
    assert str(caught.value.code).startswith(f"error: no store at {tmp_path / 'none.zarr'}")


def test_synthesize_makes_what_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made.zarr"
    sizes = ["--train", "[100x120]", "--val", "[80x90]", "--test", "[64x64,70x61]"]
    main(["data", "synthesize", "--out", str(out), *sizes, "--pixel-size-nm", "4"])
    assert "4 samples: train/synthetic-0" in capsys.readouterr().out
    samples = {sample.key: sample for sample in MosaicStore(out).samples()}
    assert samples["train/synthetic-0"].image.shape == (100, 120)
    assert samples["test/synthetic-1"].image.shape == (70, 61)
    assert list(samples["val/synthetic-0"].pixel_size_nm) == [4, 4]
    with pytest.raises(SystemExit) as caught:
        main(["data", "synthesize", "--out", str(out), *sizes])
    assert "--overwrite" in str(caught.value.code)
    main(["data", "synthesize", "--out", str(out), *sizes, "--overwrite"])
    with pytest.raises(SystemExit) as caught:
        main(["data", "synthesize", "--out", str(out), "--train", "[100y100]"])
    assert "is no size" in str(caught.value.code)


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


def test_a_reader_that_has_seen_enough_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        commands._say("as much as anybody reads")
        # From now on it goes nowhere, and Python has nothing to complain about when it ends.
        print("more", flush=True)
        assert os.path.samestat(os.fstat(closed.fileno()), Path(os.devnull).stat())
