"""Regions of an image that its match with another view rests on."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from data_modules.errors import UserError
from lightning_emseg.core.figures import PictureGrid, show_grey, show_heat
from lightning_emseg.features.encoder import Encoder

SQUARE_PX, STEP_PX = 61, 30
_SMALLEST_CROP = 0.5
_WIDEST = 4 / 3


@dataclass(frozen=True)
class Occlusion:
    """What happens to the similarity when squares are hidden.

    Attributes:
        similarity: Similarity of the whole image and the reference: dot product of pooled features of length 1.
        corners: Upper left corner (y, x) of each square in px, ``int64 (K, 2)``.
        drops: Fall of the similarity when the square is hidden, ``float64 (K,)``.
        importance: Mean drop over the squares that a pixel lies in, rescaled to 0–1, ``float32 (Y, X)``; 0 everywhere
            if all are equal.
    """

    similarity: float
    corners: NDArray[np.int64]
    drops: NDArray[np.float64]
    importance: NDArray[np.float32]


def measure_occlusion(
    encoder: Encoder,
    image: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    batch_size: int = 32,
    progress: Callable[[int], object] = lambda squares: None,
) -> Occlusion:
    """Hide one square after the other (Conrad and Narayan 2021, Figure 3c; Zeiler and Fergus 2014).

    Squares are zero behind the normalisation, so their grey is the mean of what the encoder was trained on. Features
    are of length 1, as MoCo compares them. Overlapping squares are averaged; those that an edge cuts hide less. All
    this is as in the authors' notebook; the paper's text leaves it open.

    Args:
        encoder: Encoder to analyse.
        image: ``(Y, X)``, grey levels; each side at least 61 px.
        reference: Image to compare with: a second view (Results) or the image itself (Methods); any size.
        batch_size: Occluded images at a time.
        progress: Callback with the number of squares that were done, of :func:`square_corners`.

    Raises:
        UserError: if the image is smaller than a square.
    """
    corners = square_corners(image.shape)
    plain = encoder.normalise(torch.tensor(image)[None, None])
    wanted = _direction(encoder, encoder.normalise(torch.tensor(reference)[None, None]))
    similarity = float(_direction(encoder, plain) @ wanted.T)
    found = []
    for part in np.array_split(corners, range(batch_size, len(corners), batch_size)):
        occluded = plain.repeat(len(part), 1, 1, 1)
        for place, (y, x) in enumerate(part.tolist()):
            occluded[place, :, y : y + SQUARE_PX, x : x + SQUARE_PX] = 0
        found.append((_direction(encoder, occluded) @ wanted.T)[:, 0].cpu().numpy())
        progress(len(part))
    drops = similarity - np.concatenate(found)
    return Occlusion(similarity, corners, drops, _importance(image.shape, corners, drops))


def square_corners(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Upper left corners (y, x) of the squares, ``int64 (K, 2)``: every 30 px, the last ones cut by the edge.

    Args:
        shape: Shape of the image in px.

    Raises:
        UserError: if a side is below 61 px.
    """
    if min(shape) < SQUARE_PX:
        raise UserError(
            f"an image of {' × '.join(map(str, shape))} px is smaller than the squares of {SQUARE_PX} px that are "
            "hidden: leave it out"
        )
    y, x = (STEP_PX * np.arange(1 + math.ceil((side - SQUARE_PX) / STEP_PX)) for side in shape)
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


def second_view(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Another view of an image: a random crop of half of its area or more, flipped at random, enlarged to its size.

    The crop is drawn as torchvision's ``RandomResizedCrop`` draws it, with the settings of the authors' notebook.

    Args:
        image: ``(Y, X)``.
        random: Generator that decides everything.
    """
    height, width = image.shape
    area = height * width * random.uniform(_SMALLEST_CROP, 1)
    aspect = math.exp(random.uniform(-math.log(_WIDEST), math.log(_WIDEST)))
    down = min(height, round(math.sqrt(area / aspect)))
    across = min(width, round(math.sqrt(area * aspect)))
    top, left = int(random.integers(height - down + 1)), int(random.integers(width - across + 1))
    crop = image[top : top + down, left : left + across]
    flipped = crop[:: random.choice([-1, 1]), :: random.choice([-1, 1])]
    pixels = torch.from_numpy(np.ascontiguousarray(flipped))[None, None].float()
    enlarged = F.interpolate(pixels, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
    view: NDArray[np.uint8] = enlarged[0, 0].round().clamp(0, 255).to(torch.uint8).numpy()
    return view


def _direction(encoder: Encoder, normalised: Tensor) -> Tensor:
    return F.normalize(encoder.features(normalised).double(), dim=1)


def _importance(shape: tuple[int, ...], corners: NDArray[np.int64], drops: NDArray[np.float64]) -> NDArray[np.float32]:
    total, squares = np.zeros(shape), np.zeros(shape)
    for (y, x), drop in zip(corners.tolist(), drops.tolist(), strict=True):
        here = slice(y, y + SQUARE_PX), slice(x, x + SQUARE_PX)
        total[here] += drop
        squares[here] += 1
    mean = total / squares
    low, high = mean.min(), mean.max()
    rescaled = (mean - low) / (high - low) if high > low else np.zeros(shape)
    return rescaled.astype(np.float32)


_OPACITY = 0.45


@dataclass(frozen=True)
class OcclusionRow:
    """One image of the figure.

    Attributes:
        name: Name of the image.
        image: ``(Y, X)``, grey levels.
        reference: Other view it is compared with, or ``None`` where that is the image itself.
        found: Results by encoder, in one order for all rows.
    """

    name: str
    image: NDArray[np.uint8]
    reference: NDArray[np.uint8] | None
    found: Mapping[str, Occlusion]


def occlusion_figure(rows: Sequence[OcclusionRow]) -> Figure:
    """A row an image: the image, the view it is compared with, and for each encoder the importance over the image.

    Above each heat map stands the similarity of the whole image and by how much hiding a square lowers it at most,
    without which a heat map of 0–1 cannot be judged.

    Args:
        rows: Rows, one or more; all with a reference, or none.
    """
    views = 1 + (rows[0].reference is not None)
    grid = PictureGrid([row.image.shape for row in rows], views + len(rows[0].found), title_lines=2)
    for cells, row in zip(grid.cells, rows, strict=True):
        show_grey(cells[0], row.image, row.name)
        if row.reference is not None:
            show_grey(cells[1], row.reference, "compared with")
        for axes, (name, found) in zip(cells[views:], row.found.items(), strict=True):
            title = f"{name}\nsimilarity {found.similarity:.3f}, drop ≤ {found.drops.max():.2g}"
            show_heat(axes, row.image, found.importance, _OPACITY, title)
    grid.add_bar("importance")
    return grid.figure
