"""The one setting of reading: how much memory each process may use to remember what it has read."""

import os

from data_modules.errors import UserError

CACHE_VARIABLE = "EMSEG_CACHE_MB"
"""Environment variable, because it reaches loader workers however they are started."""
DEFAULT_CACHE_MB = 64


def cache_bytes() -> int:
    """Memory in bytes for shard indexes, and as much again for chunks of remote and foreign stores.

    Returns:
        ``EMSEG_CACHE_MB`` of this process's environment, 64 MB without it; 0 remembers nothing.

    Raises:
        UserError: if the variable is no number of 0 or more.
    """
    text = os.environ.get(CACHE_VARIABLE, str(DEFAULT_CACHE_MB))
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = -1.0
    if not 0 <= megabytes < 1e9:
        raise UserError(f"{CACHE_VARIABLE}={text} is no number of megabytes: set it to 0 or more, e.g. 64")
    return int(megabytes * 1e6)
