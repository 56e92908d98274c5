"""Two hosts under torchrun (gloo over a veth pair, shared file system) train, score and predict like one process."""

import json
import os
import re
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from tests.support import tiny
from tests.support.hosts import Host, Job, loopback, two_namespaces
from tests.support.processes import run_ranks, words_of

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

# Two rows of shards in the first test mosaic, so that both hosts write into one prediction.
SHAPES = {
    "train": ((70, 80),),
    "val": ((70, 66), (64, 64)),
    "test": ((2100, 70), (50, 40), (90, 61)),
}
RUN = ("metrics.csv", "config.yaml", "environment.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt")


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    try:
        with two_namespaces() as pair:
            yield pair
    except OSError as error:
        warnings.warn(f"no network namespaces here ({error}): two processes on loopback instead", stacklevel=1)
        yield loopback()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hosts")
    tiny.make_store(path / "s.zarr", SHAPES)
    method = {"class_path": "IntegratedGradients", "init_args": {"steps": 3, "reach": 9}}
    fields = {"method": method, "per_outcome": 3, "windows": 2, "window": 64, "check": 3, "max_share": None}
    content = {
        "model": {"class_path": "VanillaUNet", "init_args": {"base_channels": 4, "depth": 2, "blend": "gaussian"}},
        "data": {
            "class_path": "Mosaic",
            "init_args": {"store": str(path / "s.zarr"), "patch_size": 64, "batch_size": 2, "patches_per_epoch": 8},
        },
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks+": [{"class_path": "AttributionFields", "init_args": {**fields, "every_n_epochs": 1}}],
        },
    }
    (path / "e.yaml").write_text(yaml.safe_dump(content))
    return path


def _best(folder: Path) -> list[str]:
    return ["--ckpt_path", str(folder / "fit" / "checkpoints" / "best.ckpt")]


@pytest.fixture(scope="module")
def printed(hosts: tuple[Host, Host], folder: Path) -> list[str]:
    """What the two hosts print while they fit, test and predict."""
    commands = [
        words_of(folder, "fit", "fit"),
        words_of(folder, "test", "two", *_best(folder)),
        words_of(folder, "predict", "two", *_best(folder), "--writer.out", "two.zarr"),
    ]
    return Job(hosts, folder, "all", commands).finish()


def _ranks(printed: list[str]) -> list[int]:
    """Global rank of the process of each host."""
    return [int(rank) for each in printed for rank in re.findall(r"GLOBAL_RANK: (\d), MEMBER: \d/2", each)]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _made_by(host: Host, path: Path) -> bool:
    return path.stat().st_mode & 0o777 == 0o666 & ~host.umask


def test_hosts_share_one_fit_that_rank_0_writes(hosts: tuple[Host, Host], folder: Path, printed: list[str]) -> None:
    ranks = _ranks(printed)
    assert sorted(ranks) == [0, 1]
    run = folder / "fit"
    for name in RUN:
        assert (run / name).is_file()
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    # Eight patches over two ranks of two: two steps.
    assert checkpoint["global_step"] == 2
    assert len((run / "attribution" / "points-fit.csv").read_text().splitlines()) > 3
    assert "S_nm2" in (run / "attribution" / "summary-fit.csv").read_text()
    first, other = hosts[ranks.index(0)], hosts[ranks.index(1)]
    assert _made_by(first, run / "metrics.csv")
    assert [path for path in _files(run) if _made_by(other, path)] == []


def test_hosts_reach_each_other_by_wire_only(hosts: tuple[Host, Host], printed: list[str]) -> None:
    if hosts[0].namespace is None:
        pytest.skip("two processes on loopback")
    for host in hosts:
        assert host.bytes_received() > 20_000
        assert host.interfaces() == {"lo", "wire"}


def test_scores_and_predictions_are_those_of_one_process(
    hosts: tuple[Host, Host], folder: Path, printed: list[str]
) -> None:
    run_ranks([words_of(folder, "test", "one", *_best(folder))], 1, folder)
    one, two = (json.loads((folder / out / "scores-test.json").read_text()) for out in ("one", "two"))
    assert one == two
    assert len(one["mosaics"]) == 3
    tables = [(folder / out / "attribution" / "points-test.csv").read_text() for out in ("one", "two")]
    assert tables[0] == tables[1]

    predict = words_of(folder, "predict", "one", *_best(folder), "--writer.out", str(folder / "one.zarr"))
    run_ranks([predict], 1, folder)
    stores = [
        {path.relative_to(folder / out): path for path in _files(folder / out)} for out in ("one.zarr", "two.zarr")
    ]
    assert set(stores[0]) == set(stores[1])
    assert [name for name in stores[0] if stores[0][name].read_bytes() != stores[1][name].read_bytes()] == []
    # Each host has written a share of the shards.
    assert all(any(_made_by(host, path) for path in stores[1].values()) for host in hosts)


def test_torchrun_restarts_fit_from_its_last_checkpoint(hosts: tuple[Host, Host], folder: Path) -> None:
    last = folder / "elastic" / "checkpoints" / "last.ckpt"
    more = ["--ckpt_path", "last", "--trainer.max_epochs", "12", "--trainer.callbacks", "[]"]
    job = Job(hosts, folder, "elastic", [words_of(folder, "fit", "elastic", *more)], restarts=1)
    try:
        end = time.monotonic() + 240
        while not last.exists():
            assert time.monotonic() < end, job.logs[0].read_text()[-3000:]
            time.sleep(0.05)
        os.kill(job.worker(1), signal.SIGKILL)
        printed = job.finish()
    finally:
        job.kill()
    assert any(re.search(r"Restored all states from the checkpoint at .*last\.ckpt", each) for each in printed)
    checkpoint = torch.load(last, weights_only=True)
    assert (checkpoint["epoch"], checkpoint["global_step"]) == (11, 24)
    # The log of the first part is put aside, and its checkpoints are not.
    assert (folder / "elastic" / "earlier" / "1" / "metrics.csv").is_file()
    assert not (folder / "elastic" / "earlier" / "1" / "checkpoints").exists()
