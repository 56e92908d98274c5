"""The command ``emseg``: everything that is not a trainer verb, as typed functions."""

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from data_modules.errors import UserError
from data_modules.synthesize import synthesize
from lightning_emseg.commands.areas import areas
from lightning_emseg.commands.attribute import attribute
from lightning_emseg.commands.baselines import baselines
from lightning_emseg.commands.curate import dedup, filter_set, label, pack_set, tile
from lightning_emseg.commands.data import CONVERTERS, consolidate, inspect, verify
from lightning_emseg.commands.demo import demo
from lightning_emseg.commands.errors import errors
from lightning_emseg.commands.export import cremi, encoder
from lightning_emseg.commands.features import firing_rate, occlusion, selectivity
from lightning_emseg.commands.leaderboard import leaderboard
from lightning_emseg.commands.quality import quality
from lightning_emseg.commands.report import report
from lightning_emseg.commands.score import score
from lightning_emseg.commands.sweep import sweep_smoke
from lightning_emseg.commands.transfer_table import transfer_table
from lightning_emseg.failures import explanation


@dataclass(frozen=True)
class Command:
    """A function and how its required arguments are given: as options, or by position.

    Attributes:
        function: Whose arguments and docstring make the options.
        positional: Whether required arguments are given by position.
        many: Name of the one argument that takes all words by position, each a path.
        several: Name of the one option that takes several words, each a text, and what a word is.
    """

    function: Callable[..., Any]
    positional: bool = False
    many: str | None = None
    several: tuple[str, str] | None = None


Tree = Mapping[str, "Command | Tree"]
_ENCODERS = (
    "encoders",
    "To be compared, as NAME=FILE (of `emseg export encoder`), NAME=ARCHITECTURE:FILE for a file that does not say "
    "what it is of, NAME=random:resnet18:SEED or NAME=imagenet:resnet50; any architecture of timm.",
)

COMMANDS: Tree = {
    "data": {
        "convert": {name: Command(function) for name, function in CONVERTERS.items()},
        "synthesize": Command(synthesize),
        "inspect": Command(inspect, positional=True),
        "verify": Command(verify, positional=True),
        "consolidate": Command(consolidate, positional=True),
        "quality": Command(quality, positional=True),
    },
    "curate": {
        "tile": Command(tile, positional=True),
        "dedup": Command(dedup, positional=True),
        "label": Command(label, positional=True),
        "filter": Command(filter_set, positional=True),
        "pack": Command(pack_set, positional=True),
    },
    "baselines": Command(baselines, positional=True),
    "attribute": Command(attribute),
    "areas": Command(areas, many="studies"),
    "score": Command(score, positional=True),
    "errors": Command(errors, positional=True),
    "export": {"cremi": Command(cremi, positional=True), "encoder": Command(encoder, positional=True)},
    "features": {
        "firing-rate": Command(firing_rate, several=_ENCODERS),
        "selectivity": Command(selectivity, several=_ENCODERS),
        "occlusion": Command(occlusion, several=_ENCODERS),
    },
    "report": Command(report, many="runs"),
    "leaderboard": Command(leaderboard),
    "transfer-table": Command(transfer_table, many="runs"),
    "sweep-smoke": Command(sweep_smoke, many="sweeps"),
    "demo": Command(demo),
}


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; mistakes of the user end with one message and exit status 1.

    Options may be written with dashes or underscores (``--pixel-size-nm``, ``--pixel_size_nm``).
    """
    parser = ArgumentParser(prog="emseg")
    _fill(parser, COMMANDS)
    parsed = parser.parse_args(normalised(sys.argv[1:] if args is None else args))
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
        bare = not equals and following.startswith("--") and name != "help"
        result.append("--" + name.replace("-", "_") + ("=true" if bare else equals + value))
    return result


def _fill(parser: ArgumentParser, tree: Tree) -> None:
    children = parser.add_subcommands()
    for key, entry in tree.items():
        child = ArgumentParser()
        summary = (entry.function.__doc__ or "").strip().split("\n")[0] if isinstance(entry, Command) else None
        if isinstance(entry, Command):
            child.description = summary
            if entry.many is not None:
                child.add_argument(entry.many, nargs="+", type=Path, help="Folders.")
            if entry.several is not None:
                child.add_argument(f"--{entry.several[0]}", nargs="+", required=True, help=entry.several[1])
            skip: set[str | int] = {name for name in (entry.many, entry.several and entry.several[0]) if name}
            child.add_function_arguments(entry.function, as_group=False, as_positional=entry.positional, skip=skip)
        children.add_subcommand(key, child, help=summary)
        if not isinstance(entry, Command):
            _fill(child, entry)
