"""Training, with loader workers, from a store behind a URL."""

import csv
from pathlib import Path

import pytest

from lightning_emseg import cli
from lightning_emseg.commands import main
from tests.support import tiny
from tests.support.servers import serving

CONFIG = """
model: {class_path: VanillaUNet, init_args: {base_channels: 2, depth: 1}}
data:
  class_path: Mosaic
  init_args: {store: URL, patch_size: 64, batch_size: 2, patches_per_epoch: 4, num_workers: 1, full_validation_every: 0}
trainer: {max_epochs: 1, log_every_n_steps: 1, enable_progress_bar: false, enable_model_summary: false}
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    tiny.make_store(tmp_path / "s.zarr")
    main(["data", "consolidate", str(tmp_path / "s.zarr")])
    return tmp_path / "s.zarr"


@pytest.mark.slow
def test_fit(tmp_path: Path, store: Path) -> None:
    with serving(tmp_path) as address:
        config = tmp_path / "config.yaml"
        config.write_text(CONFIG.replace("URL", f"{address}/s.zarr"))
        cli.main(["fit", "--config", str(config), "--trainer.default_root_dir", str(tmp_path / "run")])
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        assert any(row.get("val_tiles/f1") for row in csv.DictReader(file))


def test_commands(tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path) as address:
        main(["data", "inspect", f"{address}/s.zarr"])
        assert "m0: 133 × 97 px, 4 × 4 nm" in capsys.readouterr().out
        with pytest.raises(SystemExit) as caught:
            main(["data", "verify", f"{address}/s.zarr"])
        assert caught.value.code == 0
        main(["baselines", f"{address}/s.zarr"])
        there = capsys.readouterr().out
        with pytest.raises(SystemExit, match="can be read, not written"):
            main(["data", "consolidate", f"{address}/s.zarr"])
    main(["baselines", str(store)])
    assert capsys.readouterr().out.strip() in there
