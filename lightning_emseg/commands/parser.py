"""The parser of ``emseg``."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from lightning_emseg import __version__
from lightning_emseg.commands.tree import COMMANDS, Command, Tree


def parser_for(words: Sequence[str]) -> ArgumentParser:
    """A parser that knows the arguments of the one command that is called, and the names of all.

    Args:
        words: What is to be parsed. Where they name no command, help or the error lists what there is to choose from.
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
        if isinstance(entry, Command):
            _add_arguments(child, entry)
        else:
            _fill(child, entry, words[1:])


def _add_arguments(parser: ArgumentParser, command: Command) -> None:
    parser.description = command.summary
    if command.many is not None:
        parser.add_argument(command.many, nargs="+", type=Path, help="Folders.")
    if command.several is not None:
        name, meaning = command.several
        parser.add_argument(f"--{name}", nargs="+", required=True, help=meaning)
    skip: set[str | int] = {name for name in (command.many, command.several and command.several[0]) if name}
    parser.add_function_arguments(command.function, as_group=False, as_positional=command.positional, skip=skip)
