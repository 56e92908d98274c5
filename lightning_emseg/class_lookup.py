"""Lookup of short names of classes, ``class_path: UNet``: the tables first, then classes that are imported already."""

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytorch_lightning.callbacks
import pytorch_lightning.loggers
import torch
from jsonargparse import _typehints as jsonargparse_typehints

from data_modules import short_names as of_data
from lightning_emseg import short_names as of_training

SHORT_NAMES: Mapping[str, Mapping[str, str]] = {**of_training.SHORT_NAMES, **of_data.SHORT_NAMES}
"""Modules by class, by kind."""
_PACKAGES = {
    **{name: f"lightning_emseg.{part}" for part, names in of_training.SHORT_NAMES.items() for name in names},
    **{name: "data_modules" for names in of_data.SHORT_NAMES.values() for name in names},
}
_IMPORTED = (torch.optim, torch.optim.lr_scheduler, pytorch_lightning.callbacks, pytorch_lightning.loggers)
"""Modules whose classes have short names because Lightning imports them."""
_OF_LIGHTNING = (pytorch_lightning.LightningModule, pytorch_lightning.LightningDataModule, pytorch_lightning.Callback)


def import_named(name: str) -> type | None:
    """Import the class of a short name; ``None`` where the tables have no such name.

    >>> import_named("FocalLoss")
    <class 'lightning_emseg.losses.focal.FocalLoss'>
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


def resolve(cls: Any, name: str) -> str:
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
jsonargparse_typehints.resolve_class_path_by_name = resolve
