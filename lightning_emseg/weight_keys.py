"""Names of the same weights in timm's networks and in the encoders that smp makes of them."""

from collections.abc import Mapping

from torch import Tensor

_WRAPPER = "model."


def named_as_in(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights of a network of timm under the names that they have in an encoder.

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
    names = {_plain(key): key for key in wanted}
    parts = tuple({_plain(key.split(".")[1]) + "." for key in wanted})
    behind = tuple(key for key in given if _plain(key) not in names and not _plain(key).startswith(parts))
    return {names.get(_plain(key), key): value for key, value in given.items() if key not in behind}, behind


def _plain(key: str) -> str:
    return key.removeprefix(_WRAPPER).replace("_", ".")
