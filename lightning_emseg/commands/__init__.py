"""The command ``emseg``: everything that is not a trainer verb, as typed functions."""

import os
import sys
import warnings
from collections.abc import Sequence

from data_modules.errors import UserError
from lightning_emseg.allocator import keep_freed_memory
from lightning_emseg.commands.parser import parser_for
from lightning_emseg.commands.tree import COMMANDS, Command, Tree
from lightning_emseg.failures import explanation


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; mistakes of the user end with one message and exit status 1.

    Options may be written with dashes or underscores (``--pixel-size-nm``, ``--pixel_size_nm``).
    """
    keep_freed_memory()
    words = normalised(sys.argv[1:] if args is None else args)
    parser = parser_for(words)
    parsed = parser.parse_args(words)
    warnings.formatwarning = lambda message, *_: f"note: {message}\n"
    try:
        config = parser.instantiate_classes(parsed).as_dict()
        entry: Command | Tree = COMMANDS
        while not isinstance(entry, Command):
            name = config["subcommand"]
            entry, config = entry[name], config[name]
        result = entry.function(**config)
    except UserError as error:
        sys.exit(f"error: {error}")
    except (RuntimeError, MemoryError, OSError) as error:
        if (text := explanation(error)) is None:
            raise
        sys.exit(f"error: {text}")
    if isinstance(result, list):
        _say(f"{len(result)} samples: {', '.join(result[:6])}{' …' if len(result) > 6 else ''}")
    elif isinstance(result, str):
        _say(result)
    elif isinstance(result, int):
        sys.exit(result)


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Whoever read it, as `head`, has seen enough; Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def normalised(words: Sequence[str]) -> list[str]:
    """Options with underscores, and switches without a value as ``=true``.

    >>> normalised(["--label-name", "membrane", "--overwrite"])
    ['--label_name', 'membrane', '--overwrite=true']
    """
    result = []
    for word, following in zip(words, [*words, "--"][1:], strict=True):
        if not word.startswith("--"):
            result.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        bare = not equals and following.startswith("--") and name not in ("help", "version")
        result.append("--" + name.replace("-", "_") + ("=true" if bare else equals + value))
    return result
