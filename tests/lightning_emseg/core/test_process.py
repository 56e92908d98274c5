"""Allocator settings, and messages about failures of the machine."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.exc import InternalTorchDynamoError
from torch.utils.data import DataLoader, Dataset

from lightning_emseg.core.process import explain_failure
from tests.support import ROOT
from tests.support.failing_parts import HungryLoss

BUFFERS = 10
FAULTS = f"""
import resource, sys
import numpy as np
from lightning_emseg.core.process import keep_freed_memory
kept = keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({BUFFERS}):
    np.full(2**26, 7, np.uint8)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
RESULTS = """
import hashlib
from lightning_emseg.core.process import keep_freed_memory
keep_freed_memory()
import torch
torch.set_num_threads(1)
image = torch.linspace(0, 1, 2**20).sin().reshape(1, 1, 1024, 1024)
layer = torch.nn.Conv2d(1, 16, 3)
with torch.no_grad():
    for weights in layer.parameters():
        weights.copy_(torch.arange(weights.numel()).cos().reshape(weights.shape))
for _ in range(3):
    layer.zero_grad()
    loss = layer(image).relu().square().mean()
    loss.backward()
values = [loss, *(weights.grad for weights in layer.parameters())]
print(hashlib.sha256(b"".join(value.detach().numpy().tobytes() for value in values)).hexdigest())
"""

UNSET = ("MALLOC_", "EMSEG_MALLOC", "GLIBC_TUNABLES")


def printed(script: str, **variables: str) -> str:
    """What a process of its own prints, under none of the variables that this process has set for its children."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(UNSET)}
    here = {**clean, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=here, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the settings are those of glibc")
def test_freed_buffer_is_used_again() -> None:
    on, faults_on = printed(FAULTS).split()
    off, faults_off = printed(FAULTS, EMSEG_MALLOC="0").split()
    assert (on, off) == ("True", "False")
    # Off, every buffer brings the faults of the first one; the other half is room for faults of the interpreter.
    assert int(faults_on) < int(faults_off) * 2 / BUFFERS + 500


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the settings are those of glibc")
def test_processes_started_later_get_settings() -> None:
    script = f"""
import os, subprocess, sys
from lightning_emseg.core.process import keep_freed_memory
keep_freed_memory()
os.environ["EMSEG_MALLOC"] = "0"  # the child does not set anything itself
print(subprocess.run([sys.executable, "-c", {FAULTS!r}], capture_output=True, text=True, check=True).stdout)
"""
    _, faults_of_child = printed(script).split()
    _, faults_off = printed(FAULTS, EMSEG_MALLOC="0").split()
    assert int(faults_of_child) < int(faults_off) * 2 / BUFFERS + 500


def test_values_of_user_stay() -> None:
    script = """
import os
from lightning_emseg.core.process import keep_freed_memory
keep_freed_memory()
print(os.environ["MALLOC_TOP_PAD_"])
"""
    assert printed(script, MALLOC_TOP_PAD_="4096") == "4096"
    script = script.replace('environ["MALLOC_TOP_PAD_"]', 'environ.get("MALLOC_TOP_PAD_")')
    assert printed(script, GLIBC_TUNABLES="glibc.malloc.top_pad=4096") == "None"


def test_results_do_not_depend_on_allocator() -> None:
    assert printed(RESULTS) == printed(RESULTS, EMSEG_MALLOC="0")


def _raised(error: BaseException) -> str:
    text = explain_failure(error)
    assert text is not None
    return text


def test_host_memory_of_torch_and_of_numpy() -> None:
    with pytest.raises(RuntimeError) as caught:
        HungryLoss()(torch.zeros(1), torch.zeros(1))
    text = _raised(caught.value)
    assert text.startswith(f"this machine's memory is full ({2**55} bytes more were asked for): lower data.batch_size")
    with pytest.raises(MemoryError) as numpys:
        np.ones((2**25, 2**25), np.uint8)
    assert "this machine's memory is full (1.00 PiB" in _raised(numpys.value)
    assert "this machine's memory is full: lower" in _raised(MemoryError())


def test_accelerator_memory() -> None:
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 7.79 GiB of which 6 MiB is "
        "free. Process 1 has 2.00 GiB memory in use."
    )
    text = _raised(error)
    assert "the accelerator's memory is full (20.00 MiB more were asked for)" in text
    assert "bf16-mixed" in text


class Dies(Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), 9)
        return 0


def test_loader_process_that_the_system_has_killed() -> None:
    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(Dies(), num_workers=1))
    assert "a loader process has ended" in _raised(caught.value)
    assert "lower data.num_workers" in _raised(caught.value)


def test_full_disk_names_the_file() -> None:
    with pytest.raises(OSError, match="No space left") as caught, Path("/dev/full").open("w") as file:
        file.write("x")
    assert "could not be written (No space left on device)" in _raised(caught.value)
    assert "run/metrics.csv could not be written" in _raised(OSError(errno.EDQUOT, "Quota exceeded", "run/metrics.csv"))


def test_compilers_that_fail_are_named() -> None:
    text = _raised(InternalTorchDynamoError("no compiler found\nmore"))
    assert text == "torch cannot compile this network here; leave out --model.compile: no compiler found"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Connection closed by peer"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        FileNotFoundError(2, "No such file"),
        KeyError("a"),
    ],
)
def test_mistakes_of_programs_are_left_alone(error: Exception) -> None:
    assert explain_failure(error) is None
