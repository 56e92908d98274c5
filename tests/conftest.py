"""Fixtures that the whole tree shares."""

import gc
import os
import resource
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from lightning_emseg.core.process import keep_freed_memory

keep_freed_memory()
torch.set_num_threads(1)
# Development looks for new counterexamples at every run; a landing must not depend on chance.
settings.register_profile("dev", max_examples=10, deadline=None)
settings.register_profile("ci", max_examples=30, deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
_PEAK = pytest.StashKey[int]()


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two or three mosaics of 50–200 px in each of train, val and test; read only, please."""
    from tests.support import tiny

    path = tmp_path_factory.mktemp("stores") / "tiny.zarr"
    tiny.make_store(path)
    return path


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Undo what a run sets for its process: its seed and its determinism would otherwise be those of later tests."""
    before, arguments, style = dict(os.environ), sys.argv, warnings.formatwarning
    # Not to what it was: a run in a fixture of a module has come before.
    torch.use_deterministic_algorithms(False)
    sys.argv = ["lightning"]  # pytest's own would make Lightning warn about arguments from two sides
    yield
    torch.use_deterministic_algorithms(False)
    sys.argv = arguments
    warnings.formatwarning = style
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _garbage(pytestconfig: pytest.Config) -> Iterator[None]:
    """Collect garbage whenever the process has become a tenth larger than it ever was.

    A trainer, its module and its optimizer refer to each other, some 200 MB a test. Python looks for such circles once
    there are a quarter more objects than survived the last time, which here is hundreds of tests later: workers grew to
    8 GB.
    """
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if peak > 1.1 * pytestconfig.stash.get(_PEAK, 0):
        gc.collect()
        pytestconfig.stash[_PEAK] = peak
