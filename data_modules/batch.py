"""The typed batches that travel from the loaders to the modules."""

from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:  # stores and scores need IGNORE, and do without torch
    from torch import Tensor

IGNORE = 255
"""Mask value of pixels that count in no loss and in no score."""


class Batch(TypedDict):
    """Patches and where each of them came from.

    Attributes:
        image: ``uint8 (B, C, [Z,] Y, X)``; after augmentation ``float32`` in grey levels 0–255.
        mask: ``uint8 (B, [Z,] Y, X)`` with 0 background, 1 foreground, 255 ignore, or with the position of each
            pixel's class in the list of classes; absent where a sample has no label.
        mosaic: ``int64 (B,)``, position of the patch's mosaic in the loader's list of mosaics.
        origin: ``int64 (B, D)``, first pixel of each patch in its mosaic in px; negative where the patch is padded.
        pixel_size_nm: ``float32 (B, D)``.
        index: ``int64 (B,)``, position of the patch in the global order of its epoch, whatever the rank or worker.
        weight: Weight of the loss of this rank's batch in the mean over ranks, in training.
        together: Number of patches of all ranks in the step, in training.
    """

    image: "Tensor"
    mask: NotRequired["Tensor"]
    mosaic: "Tensor"
    origin: "Tensor"
    pixel_size_nm: "Tensor"
    index: "Tensor"
    weight: NotRequired[float]
    together: NotRequired[int]


class TileBatch(Batch):
    """Tiles and where each of them came from.

    In place of mosaics there are sources: ``mosaic`` is the number of a tile's source in the set and ``origin``, of one
    value, its number in the source. ``pixel_size_nm`` is NaN where the source does not state it.

    Attributes:
        image: ``uint8 (B, 1, 224, 224)``; smaller tiles lie in the upper left and are mirrored beyond their edges. In
            training the first view, ``float32 (B, 1, S, S)`` in grey levels 0–255.
        second: The second view, likewise.
        extent: ``int64 (B, 2)``, height and width of the part that is the tile itself, in px.
        label: ``int64 (B,)``, −1 where a tile has none.
    """

    second: NotRequired["Tensor"]
    extent: "Tensor"
    label: "Tensor"
