"""Memory that is kept for the next buffer, instead of being returned to the kernel."""

import os
import subprocess
import sys

import pytest

from tests.support import ROOT

BUFFERS = 10
FAULTS = f"""
import resource, sys
import numpy as np
from lightning_emseg.allocator import keep_freed_memory
kept = keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({BUFFERS}):
    np.full(2**26, 7, np.uint8)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
RESULTS = """
import hashlib
from lightning_emseg.allocator import keep_freed_memory
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
from lightning_emseg.allocator import keep_freed_memory
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
from lightning_emseg.allocator import keep_freed_memory
keep_freed_memory()
print(os.environ["MALLOC_TOP_PAD_"])
"""
    assert printed(script, MALLOC_TOP_PAD_="4096") == "4096"
    script = script.replace('environ["MALLOC_TOP_PAD_"]', 'environ.get("MALLOC_TOP_PAD_")')
    assert printed(script, GLIBC_TUNABLES="glibc.malloc.top_pad=4096") == "None"


def test_results_do_not_depend_on_allocator() -> None:
    assert printed(RESULTS) == printed(RESULTS, EMSEG_MALLOC="0")
