"""Two ranks that nothing but the network connects: one dies or is told to stop, and the run goes on later."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from interrupted import STOP, diary, differences, state, write_experiment

pytestmark = [pytest.mark.slow, pytest.mark.ddp]

RANKS = 2


def fit(folder: Path, name: str, stop: str = "", resume: bool = False) -> tuple[list[int], list[str], list[float]]:
    """Exit status, last lines and second of its end of each rank; each is the only one of its machine, as it thinks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "lightning_emseg", "fit", "--config", str(folder / "e.yaml")]
    words += ["--trainer.default_root_dir", str(folder / name), "--trainer.strategy", "ddp"]
    words += ["--trainer.devices", "1", "--trainer.num_nodes", str(RANKS)]
    words += ["--ckpt_path", str(folder / name / "checkpoints" / "last.ckpt")] if resume else []
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(RANKS), "LOCAL_RANK": "0"}
    here |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parent), STOP: stop}
    logs = [folder / f"{name}-{rank}.log" for rank in range(RANKS)]
    processes = []
    for rank, log in enumerate(logs):
        with log.open("w") as file:
            environment = {**os.environ, **here, "NODE_RANK": str(rank)}
            processes.append(subprocess.Popen(words, stdout=file, stderr=file, env=environment))
    ends: dict[int, float] = {}
    try:
        while len(ends) < RANKS:
            ends |= {
                n: time.monotonic() for n, each in enumerate(processes) if n not in ends and each.poll() is not None
            }
            assert not ends or time.monotonic() - min(ends.values()) < 60, "one has ended, the other hangs"
            time.sleep(0.1)
    finally:
        for each in processes:
            each.kill()
    statuses = [each.returncode for each in processes]
    return statuses, ["\n".join(log.read_text().splitlines()[-4:]) for log in logs], [ends[n] for n in range(RANKS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Path:
    path = tmp_path_factory.mktemp("lost")
    write_experiment(path, tiny_store, trainer__max_epochs=3, data__init_args__batch_size=1)
    statuses, said, _ = fit(path, "whole")
    assert statuses == [0, 0], said
    return path


def test_a_run_survives_a_killed_rank_and_a_signal_to_one(folder: Path) -> None:
    statuses, said, ended = fit(folder, "struck", stop="SIGKILL step 7 1")
    assert statuses == [1, -9], said
    assert "another process of this run has ended" in said[0]
    assert "last.ckpt" in said[0]
    print(f"rank 0 ended {ended[0] - ended[1]:.1f} s after rank 1 was killed")
    # Told to one rank, obeyed by both after the same step, the third since the checkpoint of the first epoch.
    statuses, said, _ = fit(folder, "struck", stop="SIGTERM step 3 1", resume=True)
    assert statuses == [143, 143], said
    assert state(folder / "struck")["global_step"] == 8
    assert fit(folder, "struck", resume=True)[0] == [0, 0]
    assert differences(state(folder / "struck"), state(folder / "whole")) == []
    for rank in range(RANKS):
        steps = {(line["epoch"], line["batch"]): line for line in diary(folder / "struck", rank)}
        assert list(steps.values()) == diary(folder / "whole", rank)
