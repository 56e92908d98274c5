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
    # Values that the user has given stay; the first value that this version of glibc takes is set.
    tunables, held = os.environ.get("GLIBC_TUNABLES", ""), True
    for parameter, variable, values in _SETTINGS:
        name = variable.removeprefix("MALLOC_").rstrip("_").lower()
        if variable in os.environ or f"glibc.malloc.{name}=" in tunables:
            continue
        taken = next((value for value in values if libc.mallopt(parameter, value)), None)
        if taken is not None:
            os.environ[variable] = str(taken)
        held = held and taken is not None
    return held


def explain_failure(error: BaseException) -> str | None:
    """Say what to tell the user of a failure that is not of the program's making; ``None`` for all others.

    Args:
        error: Exception as it left the trainer or the command.
    """
    text, first = str(error), (str(error).splitlines() or [""])[0]
    # Commands without a network never import torch, and nothing but torch raises its errors.
    torch = sys.modules.get("torch")
    on_device = torch is not None and isinstance(error, torch.OutOfMemoryError)
    if on_device or isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in text:
        wanted = re.search(r"allocate ([\d.]+ (?:bytes|[KMGTPE]iB))", text)
        size = f" ({wanted[1]} more were asked for)" if wanted else ""
        where = "the accelerator's memory" if on_device else "this machine's memory"
        precision = " or set --trainer.precision bf16-mixed" if on_device else ""
        return (
            f"{where} is full{size}: lower data.batch_size, data.patch_size or, in evaluation, data.eval_batch_size "
            f"and data.tile_size{precision}; --trainer.accumulate_grad_batches keeps the batch as large as it was"
        )
    if isinstance(error, RuntimeError) and re.search(r"DataLoader worker \(pid", text):
        return (
            f"a loader process has ended ({first}): most often the system has killed it for want of memory; lower "
            "data.num_workers or data.patch_size"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.filename or 'a file'} could not be written ({error.strerror}): make room there and start again"
    lost = r"Connection (closed|reset) by peer|Socket closed|remote process has terminated"
    if isinstance(error, RuntimeError) and re.search(lost, text):
        return (
            "another process of this run has ended, so this one ends too; the other one's message says why. Go on with "
            f"--ckpt_path RUN/checkpoints/last.ckpt\n  cause: {first.split('. ')[0]}"
        )
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        # Torch could go on uncompiled, but would then silently lack the speed that was asked for.
        return f"torch cannot compile this network here; leave out --model.compile: {first}"
    return None
