"""Building the module that a checkpoint is of, from the checkpoint alone."""

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_modules.errors import UserError
from lightning_emseg.core import checkpoints
from lightning_emseg.core.short_names import SHORT_NAMES
from lightning_emseg.modules.mixin import SegmentationMixin


def restore(path: Path) -> SegmentationMixin:
    """Build the module of a checkpoint with its weights, threshold and source of the threshold, in evaluation mode.

    Class and arguments are those that the checkpoint records: the class path for runs of the command line, the class's
    name for modules that were made in Python. Loss, optimiser and scheduler are left at their defaults, no pretrained
    weights are fetched, and nothing is compiled.

    Args:
        path: Checkpoint of ``lightning fit``, or of a trainer used in Python.

    Raises:
        UserError: if the file cannot be read, does not say what it is of, or its class cannot be found or built.
    """
    checkpoint = checkpoints.read(path)
    recorded = checkpoint.get("hyper_parameters", {})
    arguments = {key: value for key, value in recorded.items() if not key.startswith("_")}
    if "encoder_weights" in arguments:
        arguments["encoder_weights"] = None  # would be downloaded, and replaced at once
    kind = _class_of(checkpoint, recorded, path)
    module = _built(kind, arguments, path)
    checkpoints.check_matches(module, checkpoint, path)
    module.load_state_dict(checkpoint["state_dict"])
    module.on_load_checkpoint(checkpoint)
    return module.eval()


def _built(kind: type[SegmentationMixin], arguments: dict[str, Any], path: Path) -> SegmentationMixin:
    try:
        return kind(**arguments)
    except TypeError as error:
        # What a class gives its base itself is recorded too, but is not the caller's to give.
        fixed = re.search(r"multiple values for keyword argument '(\w+)'", str(error))
        if fixed and fixed[1] in arguments:
            return _built(kind, {key: value for key, value in arguments.items() if key != fixed[1]}, path)
        raise UserError(
            f"{path}: {kind.__name__} cannot be built from the arguments that the checkpoint records "
            f"({', '.join(arguments) or 'none'}): {error}; have the class pass them on to `SegmentationMixin`"
        ) from None


def _class_of(checkpoint: Mapping[str, Any], recorded: Mapping[str, Any], path: Path) -> type[SegmentationMixin]:
    class_path = recorded.get("_class_path")
    if class_path is not None:
        return _imported(str(class_path), path)
    name = checkpoint.get("emseg", {}).get("architecture")
    if name is None:
        raise UserError(f"{path} does not say which network it is of: train it again with this version")
    if name in SHORT_NAMES["modules"]:
        return _imported(f"{SHORT_NAMES['modules'][name]}.{name}", path)
    own = next((kind for kind in _below(SegmentationMixin) if kind.__name__ == name), None)
    if own is None:
        raise UserError(
            f"{path} is of {name}, a class of your own that is not imported (known are "
            f"{', '.join(SHORT_NAMES['modules'])}): import its module first, or train it through `lightning fit`, "
            "whose checkpoints name the class path"
        )
    return own


def _imported(class_path: str, path: Path) -> type[SegmentationMixin]:
    module, _, name = class_path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path} is of {class_path}, which cannot be imported ({error}): run this where that module can be found"
        ) from None
    if not (isinstance(kind, type) and issubclass(kind, SegmentationMixin)):
        raise UserError(f"{path} is of {class_path}, which is no SegmentationMixin: take a checkpoint of this project")
    return kind


def _below(kind: type[SegmentationMixin]) -> Iterator[type[SegmentationMixin]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)
