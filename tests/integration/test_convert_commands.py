from pathlib import Path

import numpy as np
import pytest

from data_modules.store import MosaicStore
from lightning_emseg.commands import main
from tests.support.benchmark_trees import cremi, perez, urocell
from tests.support.convert_checks import picture, save, stored


def test_benchmarks_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cremi(tmp_path / "cremi" / "sample_B_padded_20160501.hdf", 0, (1, 2, 3))
    options = ["--root", str(tmp_path / "cremi"), "--out", str(tmp_path / "cremi.zarr")]
    main(["data", "convert", "cremi", *options, "--train", "B", "--test", "", "--padded"])
    assert "1 samples: train/sample-B" in capsys.readouterr().out
    urocell(tmp_path / "urocell")
    options = ["--root", str(tmp_path / "urocell"), "--out", str(tmp_path / "urocell.zarr")]
    main(["data", "convert", "urocell", *options])
    assert "5 samples: test/fib1-0-0-0, train/fib1-1-0-3" in capsys.readouterr().out
    perez(tmp_path / "perez", "nuclei")
    options = ["--root", str(tmp_path / "perez"), "--out", str(tmp_path / "perez.zarr"), "--pixel-size-nm", "30"]
    main(["data", "convert", "perez", *options, "--organelle", "nuclei"])
    assert MosaicStore(tmp_path / "perez.zarr").splits == ["test", "train"]


def test_a_volume_from_the_command_line(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "sections" / f"{number}.png", picture(number))
        save(tmp_path / "classes" / f"{number}.png", (picture(number) % 2).astype(np.uint8))
    options = ["--image", str(tmp_path / "sections"), "--labels", str(tmp_path / "classes"), "--kind", "classes"]
    options += ["--classes", "{0: none, 1: golgi}", "--label-name", "organelle", "--pixel-size-nm", "50,4,4"]
    main(["data", "convert", "volume", *options, "--name", "v", "--out", str(tmp_path / "o.zarr")])
    assert stored(tmp_path / "o.zarr", "train/v", "organelle").shape == (3, 40, 56)


def test_help_of_isbi2012_names_every_written_split(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["data", "convert", "isbi2012", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "become the split challenge, beside train, val and test" in said
