"""Memory settings of a process, and failures of the machine in one sentence."""

import ctypes
import errno
import os
import re
import sys

# Parameters of malloc.h, and the variables by which a process that is started later gets the same values.
_SETTINGS = (
    (-3, "MALLOC_MMAP_THRESHOLD_", (1 << 30, 1 << 25)),
    (-1, "MALLOC_TRIM_THRESHOLD_", ((1 << 31) - 1,)),
    (-2, "MALLOC_TOP_PAD_", (64 << 20,)),
)


def keep_freed_memory() -> bool:
    """Let glibc keep freed buffers for the next ones, instead of returning each to the kernel.

    Page faults of large buffers otherwise take up to half of a forward pass on the CPU. Forked processes inherit the
    settings, others get them through the environment. ``EMSEG_MALLOC=0`` turns this off, and values that the user has
    given by ``MALLOC_MMAP_THRESHOLD_`` and the like, or by ``GLIBC_TUNABLES``, stay.

    Returns:
        Whether the settings hold; False on systems without glibc.
    """
    if os.environ.get("EMSEG_MALLOC") == "0" or not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    held = [_set_parameter(libc, *setting) for setting in _SETTINGS]  # all of them, whatever the first says
    return all(held)


def _set_parameter(libc: ctypes.CDLL, parameter: int, variable: str, values: tuple[int, ...]) -> bool:
    """Set one parameter to the first value that this version of glibc takes."""
    name = variable.removeprefix("MALLOC_").rstrip("_").lower()
    if variable in os.environ or f"glibc.malloc.{name}=" in os.environ.get("GLIBC_TUNABLES", ""):
        return True
    for value in values:
        if libc.mallopt(parameter, value):
            os.environ[variable] = str(value)
            return True
    return False


_DISK = (errno.ENOSPC, errno.EDQUOT)


def explain_failure(error: BaseException) -> str | None:
    """What to tell the user of a failure that is not of the program's making; ``None`` for all others.

    Args:
        error: As it left the trainer.
    """
    return next((text for explain in _EXPLAIN if (text := explain(error)) is not None), None)


def _out_of_memory(error: BaseException) -> str | None:
    # Commands without a network never import torch, and nothing but torch raises its errors.
    torch = sys.modules.get("torch")
    on_device = torch is not None and isinstance(error, torch.OutOfMemoryError)
    on_host = isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)
    if not (on_device or on_host):
        return None
    wanted = re.search(r"allocate ([\d.]+ (?:bytes|[KMGTPE]iB))", str(error))
    size = f" ({wanted[1]} more were asked for)" if wanted else ""
    where = "the accelerator's memory" if on_device else "this machine's memory"
    precision = " or set --trainer.precision bf16-mixed" if on_device else ""
    return (
        f"{where} is full{size}: lower data.batch_size, data.patch_size or, in evaluation, data.eval_batch_size and "
        f"data.tile_size{precision}; --trainer.accumulate_grad_batches keeps the batch as large as it was"
    )


def _killed_loader(error: BaseException) -> str | None:
    if not (isinstance(error, RuntimeError) and re.search(r"DataLoader worker \(pid", str(error))):
        return None
    return (
        f"a loader process has ended ({str(error).splitlines()[0]}): most often the system has killed it for want of "
        "memory; lower data.num_workers or data.patch_size"
    )


def _full_disk(error: BaseException) -> str | None:
    if not (isinstance(error, OSError) and error.errno in _DISK):
        return None
    return f"{error.filename or 'a file'} could not be written ({error.strerror}): make room there and start again"


def _lost_rank(error: BaseException) -> str | None:
    is_lost = re.search(r"Connection (closed|reset) by peer|Socket closed|remote process has terminated", str(error))
    if not (isinstance(error, RuntimeError) and is_lost):
        return None
    return (
        "another process of this run has ended, so this one ends too; the other one's message says why. Go on with "
        f"--ckpt_path RUN/checkpoints/last.ckpt\n  cause: {str(error).splitlines()[0].split('. ')[0]}"
    )


def _no_compiler(error: BaseException) -> str | None:
    if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return None
    # Torch could go on uncompiled, but would then silently lack the speed that was asked for.
    return f"torch cannot compile this network here; leave out --model.compile: {str(error).splitlines()[0]}"


_EXPLAIN = (_out_of_memory, _killed_loader, _full_disk, _lost_rank, _no_compiler)
