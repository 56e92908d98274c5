"""Short names of classes, and the argument parser's errors in one sentence that names the key and what to do."""

import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, NoReturn

import pytorch_lightning.callbacks
import pytorch_lightning.loggers
import torch
from jsonargparse import _typehints as jsonargparse_typehints
from pytorch_lightning.cli import LightningArgumentParser

from data_modules import short_names as of_data
from lightning_emseg.core import short_names as of_training

SHORT_NAMES: Mapping[str, Mapping[str, str]] = {**of_training.SHORT_NAMES, **of_data.SHORT_NAMES}
"""Modules by class, by kind."""
_PACKAGES = {
    **{name: f"lightning_emseg.{part}" for part, names in of_training.SHORT_NAMES.items() for name in names},
    **{name: "data_modules" for names in of_data.SHORT_NAMES.values() for name in names},
}
_OURS = {path.split(".")[0] for path in _PACKAGES.values()}
_IMPORTED = (torch.optim, torch.optim.lr_scheduler, pytorch_lightning.callbacks, pytorch_lightning.loggers)
"""Modules whose classes have short names because Lightning imports them."""
_OF_LIGHTNING = (pytorch_lightning.LightningModule, pytorch_lightning.LightningDataModule, pytorch_lightning.Callback)


def import_named(name: str) -> type | None:
    """Import the class of a short name; ``None`` where the tables have no such name.

    >>> import_named("FocalLoss")
    <class 'lightning_emseg.losses.focal_dice.FocalLoss'>
    """
    if name not in _PACKAGES:
        return None
    found: type = getattr(import_module(_PACKAGES[name]), name)
    return found


def near_names(wrong: str) -> list[str]:
    """List known short names that resemble a misspelt one, the most similar first.

    >>> near_names("focaldice")
    ['FocalDiceLoss']
    """
    known = {name for module in _IMPORTED for name in vars(module) if name[:1].isupper()}
    # Of names that differ in capitals only, difflib would find nothing.
    by_lower = {name.lower(): name for name in sorted({*known, *_PACKAGES})}
    return [by_lower[name] for name in difflib.get_close_matches(wrong.lower(), by_lower, n=3)]


_resolve_imported = jsonargparse_typehints.resolve_class_path_by_name


def resolve_class_path(cls: Any, name: str) -> str:
    """Return the full path of a class: that of the tables where it is a subclass, else jsonargparse's own answer.

    Args:
        cls: Type that is expected, or a tuple of types.
        name: Short name, or a full path, which is returned as it is.
    """
    found = import_named(name)
    bases = cls if isinstance(cls, tuple) else (cls,)
    if found is None or not all(isinstance(each, type) for each in bases) or not issubclass(found, bases):
        return _resolve_imported(cls, name)
    if any(issubclass(found, base) and _has_namesake(base, found) for base in _OF_LIGHTNING):
        # A class of the user: jsonargparse lists both and asks for a full path. Libraries have losses of our names.
        return _resolve_imported(cls, name)
    return f"{_PACKAGES[name]}.{name}"


def _has_namesake(base: type[Any], found: type) -> bool:
    """Whether another imported subclass of ``base`` has the name of ``found``."""
    return any(
        (each is not found and each.__name__ == found.__name__) or _has_namesake(each, found)
        for each in base.__subclasses__()
    )


# jsonargparse 4.47 has no public hook for names: it knows classes that are imported, which takes seconds for all.
jsonargparse_typehints.resolve_class_path_by_name = resolve_class_path


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
    if missing and owner and (text := missing_module(owner[-1], missing.group(2) or "", of)):
        return text
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


def missing_module(class_path: str, absent: str, of: str) -> str | None:
    """Say which module could not be imported, where a full path was given and its package is not ours.

    Args:
        class_path: Full path that was given.
        absent: Module that Python did not find: that of the path, or one that it imports.
        of: Key in parentheses, after a space; may be empty.

    Returns:
        The message; ``None`` where the name may be a misspelt one of this framework.

    >>> missing_module("my_nets.MyNet", "my_nets", " (in model)")
    'cannot import my_nets (in model): it is not installed and not on PYTHONPATH'
    >>> missing_module("my_nets.MyNet", "einops", "")
    "cannot import my_nets: it needs 'einops', which is not installed and not on PYTHONPATH"
    """
    module = class_path.rpartition(".")[0]
    if not absent or not module:
        return None
    if f"{module}.".startswith(f"{absent}."):
        is_ours = module.split(".")[0] in _OURS
        return None if is_ours else f"cannot import {absent}{of}: it is not installed and not on PYTHONPATH"
    return f"cannot import {module}{of}: it needs {absent!r}, which is not installed and not on PYTHONPATH"


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
