"""`emseg data`: inspect, verify and synthesize."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from data_modules.store import MosaicStore
from lightning_emseg.commands import main
from tests.support import tiny


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


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_missing_store_is_one_message(tmp_path: Path, command: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["data", command, str(tmp_path / "none.zarr")])
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
