"""The command `lightning`: its defaults, its messages, and its console scripts."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from data_modules.errors import UserError
from lightning_emseg import cli, trainer_cli
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import tiny


def test_message_is_cut_out_of_worker_traceback() -> None:
    inner = "image of train/a is damaged\n  cause: x"
    wrapped = (
        "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        f'  File "x.py", line 3, in read\ndata_modules.errors.UserError: {inner}\n'
    )
    assert trainer_cli.plain_message(UserError(wrapped)) == inner
    assert trainer_cli.plain_message(UserError(inner)) == inner


def test_saved_config_repeats_the_run(tiny_store: Path, tmp_path: Path) -> None:
    sizes = ["--model", "VanillaUNet", "--model.base_channels", "4", "--model.depth", "2"]
    data = ["--data", "Mosaic", "--data.store", str(tiny_store), "--data.patch_size", "64"]
    more = ["--data.patches_per_epoch", "4", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    where = ["--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.enable_progress_bar", "false"]
    cli.main(["fit", *sizes, *data, *more, *where])
    first = (tmp_path / "run" / "config.yaml").read_text()
    config = tmp_path / "again.yaml"
    config.write_text(first)
    cli.main(["fit", "--config", str(config)])
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()) == yaml.safe_load(first)
    logs = [_without_speed(folder) for folder in (tmp_path / "run", tmp_path / "run" / "earlier" / "1")]
    assert logs[0] == logs[1]
    assert "train/loss_epoch" in logs[0][-1]


def _without_speed(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert "speed/patches_per_s_epoch" in rows[0]
    return [{name: value for name, value in row.items() if not name.startswith("speed/")} for row in rows]


def test_flags_win_over_the_checkpoint(tiny_store: Path, tmp_path: Path) -> None:
    module = VanillaUNet(base_channels=4, depth=2, blend="constant")
    trainer = tiny.quiet_trainer(tmp_path, max_epochs=0, limit_val_batches=0)
    trainer.fit(module, tiny.data_of(tiny_store))
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    sizes = ["--model", "VanillaUNet", "--model.base_channels", "4", "--model.depth", "2", "--model.blend", "gaussian"]
    data = ["--data", "Mosaic", "--data.store", str(tiny_store), "--data.patch_size", "64"]
    where = ["--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.accelerator", "cpu"]
    cli.main(["test", *sizes, *data, *where, "--ckpt_path", str(tmp_path / "c.ckpt")])
    config = yaml.safe_load((tmp_path / "run" / "config-test.yaml").read_text())
    assert config["model"]["init_args"]["blend"] == "gaussian"


@pytest.mark.parametrize("given", ["1", "3", "0.5", "1.0"])
def test_whole_limits_are_batches_and_others_shares(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    verbs = ("train", "val", "test", "predict")
    limits = [word for verb in verbs for word in (f"--trainer.limit_{verb}_batches", given)]
    with pytest.raises(SystemExit):
        cli.main(["fit", *limits, "--print_config"])
    trainer = yaml.safe_load(capsys.readouterr().out)["trainer"]
    for verb in verbs:
        assert repr(trainer[f"limit_{verb}_batches"]) == given


def _run(verb: str, store: Path, folder: Path, *more: str) -> None:
    sizes = ["--model", "VanillaUNet", "--model.base_channels", "4", "--model.depth", "2"]
    data = ["--data", "Mosaic", "--data.store", str(store), "--data.patch_size", "64", "--data.patches_per_epoch", "4"]
    where = ["--trainer.default_root_dir", str(folder), "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"]
    cli.main([verb, *sizes, *data, *where, *more])


def test_bar_counts_megapixels_unless_another_is_given(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run("fit", tiny_store, tmp_path / "run")
    assert "2/2 [" in capsys.readouterr().out
    _run("test", tiny_store, tmp_path / "run")
    # 133 · 97 + 50 · 40 + 200 · 61 px.
    assert "0.03/0.03 [" in (shown := capsys.readouterr().out)
    assert "MPx/s" in shown
    _run("test", tiny_store, tmp_path / "run", "--trainer.callbacks", "TQDMProgressBar")
    assert "MPx" not in (shown := capsys.readouterr().out)
    assert "it/s" in shown
    _run("test", tiny_store, tmp_path / "run", "--trainer.enable_progress_bar", "false")
    assert "/s" not in capsys.readouterr().out


def test_speed_is_logged_beside_callbacks_of_the_user(tiny_store: Path, tmp_path: Path) -> None:
    _run("fit", tiny_store, tmp_path / "run", "--trainer.callbacks", "ModelSummary")
    row = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0]
    assert {"speed/megapixels_per_s_epoch", "speed/data_wait_share_epoch"} <= set(row.split(","))


def test_mistakes_in_code_keep_their_traceback(tiny_store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not enough values to unpack"):
        _run("fit", tiny_store, tmp_path, "--trainer.callbacks", "tests.support.failing_parts.FaultyCallback")


@pytest.mark.slow
def test_machine_that_cannot_compile_says_so(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    command = [sys.executable, "-m", "lightning_emseg", "fit", "--model", "VanillaUNet", "--model.compile", "true"]
    data = ["--data", "Mosaic", "--data.store", str(tiny_store), "--data.patch_size", "64"]
    where = ["--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.accelerator", "cpu"]
    done = subprocess.run([*command, *data, *where], capture_output=True, text=True, timeout=120, env=dict(os.environ))
    assert done.returncode == 1
    assert "error: torch cannot compile" in done.stderr
    assert "leave out --model.compile" in done.stderr
    assert "compiler found" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "lightning_emseg",
            "fit",
            "--model",
            "UNet",
            "--data",
            "Mosaic",
            "--data.store",
            "none.zarr",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 1
    assert "error: no store at none.zarr" in done.stderr
    assert "Traceback" not in done.stderr
