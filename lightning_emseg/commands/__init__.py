"""The command ``emseg``: everything that is not a trainer verb, as typed functions."""

import ast
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from data_modules.errors import UserError
from lightning_emseg import __version__
from lightning_emseg.core.process import explain_failure, keep_freed_memory


@dataclass(frozen=True)
class Command:
    """A function and how its required arguments are given: as options, or by position.

    The function is imported when its command is called, so that other commands start without its libraries.

    Attributes:
        module: Module that defines the function.
        name: Name of the function; its arguments and docstring make the options.
        positional: Whether required arguments are given by position.
        many: Name of the one argument that takes all words by position, each a path.
        several: Name of the one option that takes several words, each a text, and what a word is.
    """

    module: str
    name: str
    positional: bool = False
    many: str | None = None
    several: tuple[str, str] | None = None

    @property
    def function(self) -> Callable[..., Any]:
        """The function, imported."""
        found: Callable[..., Any] = getattr(import_module(self.module), self.name)
        return found

    @property
    def summary(self) -> str:
        """First line of its docstring, read without running the module or the packages around it."""
        root, *parts = self.module.split(".")
        spec = find_spec(root)
        path = Path(spec.origin or "").parent.joinpath(*parts).with_suffix(".py") if spec else None
        if path is None or not path.is_file():
            raise ModuleNotFoundError(f"emseg {self.name}: there is no file of {self.module}")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name == self.name:
                return (ast.get_docstring(node) or "").split("\n")[0]
        raise AttributeError(f"{self.module} defines no function {self.name}")


Tree = Mapping[str, "Command | Tree"]

_HERE, _CONVERT, _BENCHMARKS = "lightning_emseg.commands", "data_modules.convert", "data_modules.convert.benchmarks"
_ENCODERS = (
    "encoders",
    "To be compared, as NAME=FILE (of `emseg export encoder`), NAME=ARCHITECTURE:FILE for a file that does not say "
    "what it is of, NAME=random:resnet18:SEED or NAME=imagenet:resnet50; any architecture of timm.",
)

COMMANDS: Tree = {
    "data": {
        "convert": {
            "folder": Command(f"{_CONVERT}.folder", "convert_folder"),
            "volume": Command(f"{_CONVERT}.folder", "convert_volume"),
            "urisc": Command(f"{_CONVERT}.urisc", "convert_urisc"),
            "isbi2012": Command(f"{_CONVERT}.isbi2012", "convert_isbi2012"),
            "cremi": Command(f"{_BENCHMARKS}.cremi", "convert_cremi"),
            "guay": Command(f"{_BENCHMARKS}.organelles", "convert_guay"),
            "kasthuri": Command(f"{_BENCHMARKS}.casser", "convert_kasthuri"),
            "lucchi": Command(f"{_BENCHMARKS}.casser", "convert_lucchi"),
            "perez": Command(f"{_BENCHMARKS}.organelles", "convert_perez"),
            "urocell": Command(f"{_BENCHMARKS}.organelles", "convert_urocell"),
            "all-mitochondria": Command(f"{_BENCHMARKS}.all_mitochondria", "convert_all_mitochondria"),
        },
        "synthesize": Command("data_modules.synthetic.mosaic", "synthesize"),
        "inspect": Command(f"{_HERE}.data", "inspect", positional=True),
        "verify": Command(f"{_HERE}.data", "verify", positional=True),
        "consolidate": Command(f"{_HERE}.data", "consolidate", positional=True),
        "quality": Command(f"{_HERE}.quality", "quality", positional=True),
    },
    "curate": {
        "tile": Command(f"{_HERE}.curate", "tile", positional=True),
        "dedup": Command(f"{_HERE}.curate", "dedup", positional=True),
        "label": Command(f"{_HERE}.curate", "label", positional=True),
        "filter": Command(f"{_HERE}.curate_filter", "filter_set", positional=True),
        "pack": Command(f"{_HERE}.curate", "pack_set", positional=True),
    },
    "baselines": Command(f"{_HERE}.baselines", "baselines", positional=True),
    "attribute": Command(f"{_HERE}.attribute", "attribute"),
    "areas": Command(f"{_HERE}.areas", "areas", many="studies"),
    "score": Command(f"{_HERE}.score", "score", positional=True),
    "errors": Command(f"{_HERE}.errors", "errors", positional=True),
    "export": {
        "cremi": Command(f"{_HERE}.export", "cremi", positional=True),
        "encoder": Command(f"{_HERE}.export", "encoder", positional=True),
    },
    "features": {
        "firing-rate": Command(f"{_HERE}.features", "firing_rate", several=_ENCODERS),
        "selectivity": Command(f"{_HERE}.features", "selectivity", several=_ENCODERS),
        "occlusion": Command(f"{_HERE}.features", "occlusion", several=_ENCODERS),
    },
    "report": Command(f"{_HERE}.report", "report", many="runs"),
    "leaderboard": Command(f"{_HERE}.leaderboard", "leaderboard"),
    "transfer-table": Command(f"{_HERE}.transfer_table", "transfer_table", many="runs"),
    "demo": Command(f"{_HERE}.demo", "demo"),
}


def parser_for(words: Sequence[str]) -> ArgumentParser:
    """A parser that knows the arguments of the one command that is called, and the names of all.

    Args:
        words: Command line to parse. Where it names no command, help or the error lists what there is to choose from.
    """
    parser = ArgumentParser(prog="emseg", version=__version__)
    _fill(parser, COMMANDS, words)
    return parser


def _fill(parser: ArgumentParser, tree: Tree, words: Sequence[str]) -> None:
    chosen = words[0] if words and words[0] in tree else None
    children = parser.add_subcommands()
    for name, entry in tree.items():
        child = ArgumentParser()
        summary = entry.summary if chosen is None and isinstance(entry, Command) else None
        children.add_subcommand(name, child, help=summary)
        if name != chosen:
            continue
        if not isinstance(entry, Command):
            _fill(child, entry, words[1:])
            continue
        child.description = entry.summary
        if entry.many is not None:
            child.add_argument(entry.many, nargs="+", type=Path, help="Folders.")
        if entry.several is not None:
            option, meaning = entry.several
            child.add_argument(f"--{option}", nargs="+", required=True, help=meaning)
        skip: set[str | int] = {given for given in (entry.many, entry.several and entry.several[0]) if given}
        child.add_function_arguments(entry.function, as_group=False, as_positional=entry.positional, skip=skip)


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; mistakes of the user end with one message and exit status 1.

    Options may be written with dashes or underscores (``--pixel-size-nm``, ``--pixel_size_nm``).
    """
    keep_freed_memory()
    words = normalise_words(sys.argv[1:] if args is None else args)
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
        if (text := explain_failure(error)) is None:
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


def normalise_words(words: Sequence[str]) -> list[str]:
    """Write options with underscores, and switches without a value as ``=true``.

    >>> normalise_words(["--label-name", "membrane", "--overwrite"])
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
