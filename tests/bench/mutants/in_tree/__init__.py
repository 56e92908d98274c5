"""Switch of the mutants in a mutated tree; imported by every mutated expression, so it imports next to nothing."""

import os
from mmap import mmap

ON = "EMSEG_MUTANT"
"""Environment variable: number of the mutant that is on."""
FLAGS = "EMSEG_MUTANT_FLAGS"
"""Environment variable: file with a byte for each mutant, which is set to 1 when its expression is evaluated."""
_maps: dict[str, mmap] = {}


def is_on(number: int) -> bool:
    """Tell whether a mutant is on, in this process or one that has started it."""
    path = os.environ.get(FLAGS)
    if path:
        open_flags(path)[number] = 1
    return os.environ.get(ON) == str(number)


# What `torch.compiler.assume_constant_result` does, without torch: a compiled graph does not break here.
vars(is_on)["_dynamo_marked_constant"] = True


def open_flags(path: str) -> mmap:
    """Map the file of flags into memory, which all processes share."""
    if path not in _maps:
        with open(path, "r+b") as file:  # noqa: PTH123 - pathlib would be one more import
            _maps[path] = mmap(file.fileno(), 0)
    return _maps[path]
