"""Failures of the machine become one sentence; all others stay what they are."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.exc import InternalTorchDynamoError
from torch.utils.data import DataLoader, Dataset

from lightning_emseg.failures import explanation
from tests.support.failing_parts import HungryLoss


def _raised(error: BaseException) -> str:
    text = explanation(error)
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
    assert explanation(error) is None
