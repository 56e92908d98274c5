"""Settings of the C library's memory allocator."""

import ctypes
import os
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
    held = [_set(libc, *setting) for setting in _SETTINGS]  # all of them, whatever the first says
    return all(held)


def _set(libc: ctypes.CDLL, parameter: int, variable: str, values: tuple[int, ...]) -> bool:
    """Set one parameter to the first value that this version of glibc takes."""
    name = variable.removeprefix("MALLOC_").rstrip("_").lower()
    if variable in os.environ or f"glibc.malloc.{name}=" in os.environ.get("GLIBC_TUNABLES", ""):
        return True
    for value in values:
        if libc.mallopt(parameter, value):
            os.environ[variable] = str(value)
            return True
    return False
