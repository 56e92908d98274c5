"""Turning the argument parser's errors into one sentence that names the key and what to do."""

import difflib
import inspect
import re
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import NoReturn

from pytorch_lightning.cli import LightningArgumentParser

from lightning_emseg.class_lookup import near_names


class ReadableParser(LightningArgumentParser):
    """Prints one message without usage and type dumps."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with status 2; within another parser, which tries several types, raise as jsonargparse does."""
        if not self.exit_on_error:
            super().error(message, ex)
        sys.stderr.write(f"error: {readable(message)}\n")
        sys.exit(2)


def readable(message: str) -> str:
    """Shorten a message of jsonargparse to its cause.

    >>> readable("Option 'encodr' is not accepted, Problem with given class_path 'lightning_emseg.modules.unet.UNet'")
    "UNet has no option 'encodr': did you mean 'encoder'?"
    >>> readable("Subcommand 'fit' does not accept option 'trainer.max_epoch'")
    "there is no option 'trainer.max_epoch': did you mean 'max_epochs'?"
    """
    message = str(message)
    key = re.search(r"[Pp]arser key \"([^\"]+)\"", message)
    of = f" (in {key.group(1)})" if key else ""
    option = re.search(r"Option '([^']+)' is not accepted", message)
    owner = re.findall(r"Problem with given class_path '([^']+)'", message)
    if option and owner:
        name = owner[-1].rpartition(".")[2]
        hint = suggestion(option.group(1), option_names(owner[-1]))
        part = key.group(1).split(".")[0] if key else ""
        listing = f" `lightning fit --{part}.help {name}` lists its options" if part in ("model", "data") else ""
        return f"{name} has no option '{option.group(1)}'{of}{hint}{';' if hint == '' and listing else ''}{listing}"
    trainer = re.search(r"option '(trainer\.(\w+))'", message)
    if trainer:
        hint = suggestion(trainer.group(2), option_names("pytorch_lightning.Trainer"))
        return f"there is no option '{trainer.group(1)}'{hint}"
    missing = re.search(r"Expected a dot import path string: (\S+)|No module named '([^']+)'", message)
    if missing:
        return missing_class(missing.group(1) or missing.group(2), of, is_short_name=missing.group(1) is not None)
    absent = re.search(r"module '([^']+)' has no attribute '([^']+)'", message)
    # A module of the user may fail by the same words, for another reason.
    if absent and owner and owner[-1] == f"{absent.group(1)}.{absent.group(2)}":
        return missing_class(owner[-1], of)
    wrong = re.findall(r"[Pp]arser key \"([^\"]+)\":\s*(Expected [^\n]*)", message)
    if wrong and key:
        inner, expectation = wrong[-1]
        path = key.group(1) if inner == key.group(1) else f"{key.group(1)}.{inner}"
        plain = re.sub(r"a <class '(\w+)'>", r"\1", expectation)
        return f"{path}: {plain}"
    return re.sub(r"\n\s*Given value type:.*", "", message, flags=re.S)


def missing_class(wanted: str, of: str, is_short_name: bool = False) -> str:
    """Say that a class was not found, and how to name one.

    Args:
        wanted: Name or full path that was given.
        of: Key in parentheses, after a space; may be empty.
        is_short_name: Whether ``wanted`` was looked up as a short name.

    >>> missing_class("data_modules.tiles.URISC", "")
    "no class 'data_modules.tiles.URISC': did you mean URISC? Otherwise give its full path, e.g. package.module.Class"
    >>> missing_class("Overlays", " (in model)", is_short_name=True)
    "no class 'Overlays' (in model): Overlays is of another kind; `lightning fit --help` lists the names of each kind"
    """
    name = wanted.rpartition(".")[2]
    near = near_names(name)
    if is_short_name and name in near:
        listing = "`lightning fit --help` lists the names of each kind"
        return f"no class {wanted!r}{of}: {wanted} is of another kind; {listing}"
    near = [name] if name in near and name != wanted else [each for each in near if each != wanted]
    *others, last = near or [""]
    meant = f"{', '.join(others)} or {last}" if others else last
    hint = f"did you mean {meant}? Otherwise" if near else "check the spelling, or"
    return f"no class {wanted!r}{of}: {hint} give its full path, e.g. package.module.Class"


def refusal(message: str) -> str:
    r"""What a configured class said when it refused its arguments, out of jsonargparse's list of all types it tried.

    >>> refusal("Does not validate\nErrors:\n  - Expected a None\n  - overlap must be below 1\nGiven value type: x")
    'overlap must be below 1'
    """
    tried, *rest = re.split(r"\n\s*Given value type:", message, maxsplit=1)
    return re.split(r"\n\s*- ", tried)[-1].strip() if rest else message


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """A hint at the nearest known name, beginning with a colon; empty where none is near."""
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else ""


def option_names(class_path: str) -> list[str]:
    """Names of all arguments of a class and its bases; none where it cannot be imported."""
    module, _, name = class_path.rpartition(".")
    try:
        owner = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return []
    # A decorated constructor shows its wrapper's arguments, so it is unwrapped.
    bases = [inspect.unwrap(vars(base)["__init__"]) for base in inspect.getmro(owner)[:-1] if "__init__" in vars(base)]
    return [parameter for base in bases for parameter in inspect.signature(base).parameters]
