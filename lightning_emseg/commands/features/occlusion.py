"""``emseg features occlusion``: which regions the match of an image with another view rests on."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from data_modules.errors import UserError
from lightning_emseg.commands.features.inputs import Pixels, open_encoders, read_images
from lightning_emseg.commands.features.output import Record, make_folder, pages, text_table, write_numbers
from lightning_emseg.core.tables import mean_se
from lightning_emseg.features.occlusion import (
    SQUARE_PX,
    STEP_PX,
    Occlusion,
    measure_occlusion,
    second_view,
    square_corners,
)
from lightning_emseg.report.occlusion_plot import OcclusionRow, occlusion_figure

Against = Literal["view", "copy"]
_ROWS = 5
_REFERENCES: Mapping[Against, Callable[[Pixels, np.random.Generator], Pixels | None]] = {
    "view": second_view,
    "copy": lambda image, random: None,
}


def occlusion(
    encoders: list[str], images: str, out: Path, against: Against = "view", batch_size: int = 32, seed: int = 0
) -> str:
    """Show which regions of images encoders recognise them by: squares of 61 px are hidden, one every 30 px.

    Importance is by how much the similarity falls, the dot product of pooled features of length 1 (Conrad and Narayan
    2021, Figure 3c), rescaled to 0–1 in each heat map. Writes occlusion.png, .csv (a row a square) and .json.

    Args:
        encoders: To be compared.
        images: Folder of grey images, or one image; all at least 61 px.
        out: Folder for the results.
        against: What occluded images are compared with: view is another crop of the image, flipped and rescaled at
            random (Results); copy is the image itself (Methods).
        batch_size: Occluded images that are encoded at a time.
        seed: Of the other views.

    Raises:
        UserError: if an encoder cannot be made, there are no images, or one is smaller than a square.
    """
    if batch_size < 1:
        raise UserError(f"--batch-size {batch_size}: give at least 1")
    samples = read_images(images)
    squares = sum(_squares(name, image) for name, image in samples)
    opened = open_encoders(encoders, [image for _, image in samples])
    make_folder(out)
    rows = []
    with tqdm(total=squares * len(opened), unit="square", disable=None) as bar:
        for index, (name, image) in enumerate(samples):
            view = _REFERENCES[against](image, np.random.default_rng([seed, index]))
            reference = image if view is None else view
            found = {each.name: measure_occlusion(each, image, reference, batch_size, bar.update) for each in opened}
            rows.append(OcclusionRow(name, image, view, found))
    settings = {
        "images": images,
        "against": against,
        "square_px": SQUARE_PX,
        "step_px": STEP_PX,
        "seed": seed,
        "similarity": "dot product of pooled features of length 1",
    }
    summary = {each.name: _summary([row.found[each.name] for row in rows]) for each in opened}
    records = [record for each in opened for row in rows for record in _records(row, each.name)]
    written = [write_numbers(out, "occlusion", settings, opened, summary, records)]
    for path, part in pages(out, "occlusion", len(rows), _ROWS):
        occlusion_figure(rows[part]).savefig(path)
        written.append(str(path))
    return f"{_table(against, len(rows), summary)}\n\n{', '.join(written)}"


def _squares(name: str, image: Pixels) -> int:
    try:
        return len(square_corners(image.shape))
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def _records(row: OcclusionRow, encoder: str) -> list[Record]:
    found = row.found[encoder]
    return [
        {"encoder": encoder, "image": row.name, "y": y, "x": x, "similarity": found.similarity - drop, "drop": drop}
        for (y, x), drop in zip(found.corners.tolist(), found.drops.tolist(), strict=True)
    ]


def _summary(found: list[Occlusion]) -> Record:
    return {
        "similarity": mean_se([each.similarity for each in found]).mean,
        "mean_drop": mean_se([float(each.drops.mean()) for each in found]).mean,
        "largest_drop": mean_se([float(each.drops.max()) for each in found]).mean,
    }


def _table(against: str, images: int, summary: Mapping[str, Record]) -> str:
    rows = [["encoder", "similarity", "mean drop", "largest drop"]]
    rows += [[name, *(f"{value:.4f}" for value in row.values())] for name, row in summary.items()]
    what = {"view": "with another view", "copy": "with the image itself"}[against]
    return f"similarity {what}, and its drop when a square is hidden: means over {images} image(s)\n{text_table(rows)}"
