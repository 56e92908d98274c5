"""Encoder weights after MoCo v2 pretraining, in the format of CEM500K's release."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from data_modules.errors import UserError

_WRAPPER = "model."


def named_as_in(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Bring weights of a network of timm under the names that they have in an encoder.

    smp's encoders ``tu-…`` hold the network as ``model``, join the names of nested stages by underscores
    (``model.stages_0.blocks.1`` is ``stages.0.blocks.1``), and lack what comes behind the last stage (EfficientNet's
    last convolution, the norm before a pooling). So keys are compared without the one and regardless of the other, and
    keys of parts that the encoder has nothing of are set apart. All other encoders are left to have the same names.

    Args:
        wanted: State of the encoder.
        given: State of the network.

    Returns:
        ``given`` by the encoder's keys, or by its own where the encoder lacks them; and the keys of what was set apart.
    """
    if not all(key.startswith(_WRAPPER) for key in wanted):
        return dict(given), ()
    names = {_plain_key(key): key for key in wanted}
    parts = tuple({_plain_key(key.split(".")[1]) + "." for key in wanted})
    behind = tuple(key for key in given if _plain_key(key) not in names and not _plain_key(key).startswith(parts))
    return {names.get(_plain_key(key), key): value for key, value in given.items() if key not in behind}, behind


def _plain_key(key: str) -> str:
    return key.removeprefix(_WRAPPER).replace("_", ".")


_QUERY_ENCODER = re.compile(r"^(?:module\.)?encoder_q\.")
_PROJECTION_HEAD = "fc."
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class MocoWeights:
    """The query encoder of a MoCo checkpoint.

    Attributes:
        path: File that it was read from.
        state_dict: Tensors under the keys of a torchvision ResNet (``conv1.weight``, ``layer1.0.…``) or of another
            network of timm, without ``fc``.
        norms: Mean and standard deviation of the training images in grey levels 0–255, or None where the file has none.
        architecture: Name in the file (``arch``), perhaps of timm, or None where there is none.
    """

    path: Path
    state_dict: dict[str, Tensor]
    norms: tuple[float, float] | None
    architecture: str | None = None


@dataclass(frozen=True)
class LoadReport:
    """Keys of the weights, by what became of them.

    Attributes:
        loaded: Keys that the encoder took over.
        behind: Keys of layers behind the last stage, which an encoder of smp has not and does not need.
    """

    loaded: tuple[str, ...]
    behind: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Numbers, and the first keys of what was left out."""
        rest = f", {len(self.behind)} left out behind the last stage ({_first(self.behind)})" if self.behind else ""
        return f"{len(self.loaded)} weights loaded{rest}"


def load_moco_weights(path: str | Path) -> MocoWeights:
    """Read a checkpoint in the format of CEM500K's release (Conrad and Narayan 2021).

    The file is what ``torch.save`` wrote of a dict with ``state_dict``, of which the keys ``module.encoder_q.*`` are
    kept and the projection head ``fc`` is dropped, and perhaps ``norms``, a mean and a standard deviation in the range
    0–1 as a pair or a dict, each a number or a list of one. ``arch`` is read where it is text.

    Args:
        path: The file; nothing in it is executed (``weights_only``).

    Raises:
        UserError: There is no such file, or it is not of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of the downloaded weights (.pth.tar)")
    try:
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch.load raises whatever its readers stumble over in a foreign file
        raise UserError(
            f"{path}: cannot be read as a PyTorch file of tensors and plain values ({type(error).__name__}); "
            f"it may be another format, unpacked, or an incomplete download"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        found = _first(list(checkpoint)) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise UserError(
            f"{path}: no MoCo checkpoint, as it has no dict 'state_dict' but {found}; give the released file"
        )
    everything: dict[str, object] = checkpoint["state_dict"]
    encoder = {
        _QUERY_ENCODER.sub("", key): value for key, value in everything.items() if _QUERY_ENCODER.match(str(key))
    }
    state_dict = {
        key: value
        for key, value in encoder.items()
        if isinstance(value, Tensor) and not key.startswith(_PROJECTION_HEAD)
    }
    if not state_dict:
        raise UserError(
            f"{path}: no key starts with 'module.encoder_q.' (the keys are {_first(list(everything))}); "
            f"give a MoCo checkpoint, whose query encoder has these keys"
        )
    architecture = checkpoint.get("arch")
    norms = _grey_level_norms(checkpoint.get("norms"), path)
    return MocoWeights(path, state_dict, norms, architecture if isinstance(architecture, str) else None)


def initialise_encoder(encoder: nn.Module, weights: MocoWeights) -> LoadReport:
    """Copy weights into an encoder that has their keys.

    These are, for ResNets, smp's encoders (``smp.Unet(...).encoder``) and timm's (``CASENet(...).encoder``); for others
    timm's networks and smp's encoders ``tu-…``, see :func:`~lightning_emseg.core.weights.named_as_in`. One-channel
    weights of the first convolution are repeated over the channels of a three-channel encoder and divided by 3, so that
    a grey image given three times yields what it yields in one channel; three-channel weights (ImageNet's) are added up
    for an encoder of one channel, for the same reason. No other difference in shape is bridged.

    Args:
        encoder: Module that is changed in place, or left as it is if an error is raised.
        weights: Weights that `load_moco_weights` has read.

    Returns:
        The keys by what became of them.

    Raises:
        UserError: A key is missing, unexpected or of another shape; counters of batch norm may be missing.
    """
    wanted: dict[str, Tensor] = encoder.state_dict()
    given, behind = named_as_in(wanted, weights.state_dict)
    first = first_convolution(wanted)
    if first in given and given[first].ndim == 4:
        match given[first].shape[1], wanted[first].shape[1]:
            case 1, 3:
                given[first] = given[first].repeat(1, 3, 1, 1) / 3
            case 3, 1:
                given[first] = given[first].sum(dim=1, keepdim=True)
    matching = {key: given[key] for key in wanted if key in given and given[key].shape == wanted[key].shape}
    if not any(value.is_floating_point() for value in matching.values()):
        raise UserError(
            f"{weights.path}: fits no weight of the encoder {type(encoder).__name__}; its keys are "
            f"{_first(list(given))}, the encoder's {_first(list(wanted))}; use the architecture that was pretrained"
        )
    if misfits := _list_misfits(given, wanted):
        raise UserError(
            f"{weights.path}: does not fit the encoder: {'; '.join(misfits)}; "
            f"use the architecture and the channels that were pretrained"
        )
    encoder.load_state_dict(matching, strict=False)
    return LoadReport(tuple(matching), behind)


def first_convolution(state_dict: Mapping[str, Tensor]) -> str | None:
    """Find the weight ``(F, C, y, x)`` that sees the image: the first of its shape, as networks list their layers.

    Args:
        state_dict: State of a network, in its order.

    Returns:
        Its key, or ``None`` if the network has no convolutions.
    """
    return next((key for key, value in state_dict.items() if key.endswith("weight") and value.ndim == 4), None)


def _grey_level_norms(norms: object, path: Path) -> tuple[float, float] | None:
    if norms is None:
        return None
    pair = [norms.get("mean"), norms.get("std")] if isinstance(norms, dict) else norms
    numbers = [_number(value) for value in pair] if isinstance(pair, Sequence | Tensor) else []
    match numbers:
        case [float(mean), float(std)] if 0 <= mean <= 1 and 0 < std <= 1:
            return 255 * mean, 255 * std
    raise UserError(
        f"{path}: 'norms' must be one mean and one standard deviation in the range 0–1, but are {norms!r}; "
        f"correct them in the file, or remove them and set the normalisation yourself"
    )


def _number(value: object) -> float | None:
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return float(value) if isinstance(value, int | float) else None


def _list_misfits(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    common = [key for key in wanted if key in given]
    missing = [key for key in wanted if key not in given and not key.endswith(_COUNTER)]
    unexpected = [key for key in given if key not in wanted]
    mismatched = [key for key in common if given[key].shape != wanted[key].shape]
    parts = []
    if missing:
        parts.append(f"{len(missing)} keys are missing ({_first(missing)})")
    if unexpected:
        parts.append(f"{len(unexpected)} are not in the encoder ({_first(unexpected)})")
    if mismatched:
        key = mismatched[0]
        shapes = f"{key}: {tuple(given[key].shape)} in the file, {tuple(wanted[key].shape)} in the encoder"
        parts.append(f"{len(mismatched)} have another shape ({shapes})")
    untouched = len(missing) + len(mismatched)
    if untouched:
        parts.append(f"{untouched} of the encoder's {len(missing) + len(common)} would stay random")
    return parts


def _first(keys: Sequence[str], count: int = 3) -> str:
    shown = ", ".join(str(key) for key in keys[:count])
    return f"{shown}, …" if len(keys) > count else shown or "none"
