"""Commands ``emseg features``: invariance, selectivity and importance of an encoder's features."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.tile_set import SIDE
from lightning_emseg.commands.features_inputs import (
    Pixels,
    Record,
    choose_tiles,
    make_folder,
    open_encoders,
    pages,
    read_images,
    read_pairs,
    text_table,
    write_numbers,
)
from lightning_emseg.core.tables import mean_se
from lightning_emseg.features.encoder import keep_resolution
from lightning_emseg.features.firing_rate import (
    DISTORTIONS,
    FEWEST_IMAGES,
    FIRING_THRESHOLD,
    NEAR_MAXIMUM,
    Distortion,
    FiringRates,
    firing_rate_figure,
    images_needed,
    measure_firing,
)
from lightning_emseg.features.occlusion import (
    SQUARE_PX,
    STEP_PX,
    Occlusion,
    OcclusionRow,
    measure_occlusion,
    occlusion_figure,
    second_view,
    square_corners,
)
from lightning_emseg.features.selectivity import (
    FILTERS,
    RESPONSE_THRESHOLD,
    Selectivity,
    SelectivityRow,
    measure_selectivity,
    selectivity_figure,
)


def firing_rate(
    encoders: list[str],
    images: str,
    out: Path,
    number: int = 100,
    noise_images: int = 1000,
    size: int = SIDE,
    batch_size: int = 32,
    seed: int = 0,
) -> str:
    """Measure how invariant the pooled features of encoders are to rotation, blur, noise, brightness, contrast, scale.

    Of each neuron, the images are taken that drive it near maximally, and the share of them is counted that still
    makes it fire when distorted (Conrad and Narayan 2021, Figure 3a). Writes firing-rate.png, .csv and .json.

    Args:
        encoders: To be compared.
        images: Folder of grey images, or a tile set.
        out: Folder for the results.
        number: Of random tiles; 100 in the paper.
        noise_images: For the thresholds above which neurons fire.
        size: Side of the tiles in px, best the one that encoders were trained with.
        batch_size: Tiles that are encoded at a time.
        seed: Of the choice of tiles, and of the noise images.

    Raises:
        UserError: if an encoder cannot be made, there are too few tiles of that size, or an argument is out of range.
    """
    if min(number, noise_images) < FEWEST_IMAGES or size < 32 or batch_size < 1:
        raise UserError(
            f"--number {number} --noise-images {noise_images} --size {size} --batch-size {batch_size}: give at least "
            f"{FEWEST_IMAGES}, {FEWEST_IMAGES}, 32 and 1"
        )
    names, tiles = choose_tiles(images, number, size, seed, FEWEST_IMAGES)
    opened = open_encoders(encoders, [tiles])
    make_folder(out)
    found: dict[str, FiringRates] = {}
    with tqdm(total=len(opened) * images_needed(len(tiles), noise_images), unit="image", disable=None) as bar:
        for encoder in opened:
            bar.set_description(encoder.name)
            found[encoder.name] = measure_firing(
                encoder, torch.from_numpy(tiles)[:, None], noise_images, seed, batch_size, progress=bar.update
            )
    settings = {
        "images": images,
        "tiles": names,
        "noise_images": noise_images,
        "size_px": size,
        "seed": seed,
        "threshold_percentile": 100 * FIRING_THRESHOLD,
        "near_maximum_percentile": 100 * NEAR_MAXIMUM,
        "considered": "neurons that fire at all images above their near-maximum percentile",
        "error": "standard error over considered neurons",
    }
    summary = {
        name: {"neurons": rates.neurons, "selective": rates.selective, **_means(rates)} for name, rates in found.items()
    }
    records = [
        {"encoder": name, "distortion": each.name, "strength": strength, "rate": point.mean, "se": point.se}
        for name, rates in found.items()
        for each in DISTORTIONS
        for strength, point in zip(each.strengths, rates.curves[each.name], strict=True)
    ]
    files = write_numbers(out, "firing-rate", settings, opened, summary, records)
    firing_rate_figure(found).savefig(out / "firing-rate.png")
    return f"{_firing_table(found, len(tiles))}\n\n{out / 'firing-rate.png'}, {files}"


def _means(rates: FiringRates) -> dict[str, float]:
    return {each.name: _mean(rates, each) for each in DISTORTIONS}


def _mean(rates: FiringRates, distortion: Distortion) -> float:
    curve = zip(distortion.strengths, rates.curves[distortion.name], strict=True)
    return mean_se([point.mean for strength, point in curve if strength != distortion.identity]).mean


def _firing_table(found: dict[str, FiringRates], tiles: int) -> str:
    rows = [["encoder", "neurons", *(each.name for each in DISTORTIONS)]]
    for name, rates in found.items():
        means = [f"{mean:.3f}" for mean in _means(rates).values()]
        rows.append([name, f"{rates.selective:,} of {rates.neurons:,}", *means])
    return f"mean firing rate of {tiles} tiles, averaged over the strengths of a distortion\n{text_table(rows)}"


_SMALLEST_PX = 32
_SELECTIVITY_ROWS = 6
_SCORES = {"response_r": "r of the mean map", "best_r": "r of the best map", "iou": "IoU"}


def selectivity(
    encoders: list[str], images: str, labels: str, out: Path, name: str = "organelle", drop_stages: int = 2
) -> str:
    """Measure how well an encoder's 32 best maps find an organelle, without any training.

    Maps of the last layer are correlated with the mask, the best are averaged and binarised (Conrad and Narayan 2021,
    Figure 3b), image by image. As the best are chosen with the mask they are judged by, numbers compare encoders only.
    Writes selectivity.png, .csv and .json.

    Args:
        encoders: To be compared.
        images: Folder of grey images or one image; whole images are encoded, so cut those of thousands of px first.
        labels: Folder of masks, or one, of two values with the organelle bright; matched by name.
        out: Folder for the results.
        name: Of the organelle.
        drop_stages: Number of the last downsamplings to leave out; 1 for nuclei, 2 for mitochondria, 4 for ER;
            0 for transformers, which have none.

    Raises:
        UserError: if an encoder cannot be made, images and masks do not match, or a mask is empty or full.
    """
    samples = read_pairs(images, labels)
    if small := [sample for sample, image, _ in samples if min(image.shape) < _SMALLEST_PX]:
        raise UserError(f"{images}: {small[0]} is smaller than {_SMALLEST_PX} px, which leaves no map: leave it out")
    opened = [
        keep_resolution(each, drop_stages) for each in open_encoders(encoders, [image for _, image, _ in samples])
    ]
    make_folder(out)
    rows = []
    with tqdm(total=len(samples) * len(opened), unit="image", disable=None) as bar:
        for sample, image, mask in samples:
            found = {}
            for encoder in opened:
                found[encoder.name] = measure_selectivity(encoder, image, mask)
                bar.update(1)
            rows.append(SelectivityRow(sample, image, mask, found))
    records = [_record(row, encoder.name) for encoder in opened for row in rows]
    summary = {encoder.name: _selectivity_summary(records, encoder.name) for encoder in opened}
    settings = {
        "images": images,
        "labels": labels,
        "name": name,
        "drop_stages": drop_stages,
        "filters": FILTERS,
        "threshold": RESPONSE_THRESHOLD,
    }
    written = [write_numbers(out, "selectivity", settings, opened, summary, records)]
    for path, part in pages(out, "selectivity", len(rows), _SELECTIVITY_ROWS):
        selectivity_figure(rows[part], name).savefig(path)
        written.append(str(path))
    return f"{_selectivity_table(name, len(rows), records, summary)}\n\n{', '.join(written)}"


def _record(row: SelectivityRow, encoder: str) -> Record:
    found: Selectivity = row.found[encoder]
    best = found.correlations[found.chosen]
    return {
        "encoder": encoder,
        "image": row.name,
        "share": float(row.mask.mean()),
        "maps": len(found.chosen),
        "best_r": float(best[0]) if len(best) else float("nan"),
        "mean_r": float(best.mean()) if len(best) else float("nan"),
        "response_r": found.response_correlation,
        "iou": found.iou,
    }


def _selectivity_summary(records: list[Record], encoder: str) -> Record:
    mine = [record for record in records if record["encoder"] == encoder]
    found = {score: mean_se([record[score] for record in mine]) for score in _SCORES}
    return {
        key: value for score, each in found.items() for key, value in ((score, each.mean), (f"{score}_se", each.se))
    }


def _selectivity_table(name: str, images: int, records: list[Record], summary: Record) -> str:
    rows = [["encoder", *_SCORES.values()]]
    for encoder in summary:
        values = [[record[score] for record in records if record["encoder"] == encoder] for score in _SCORES]
        rows.append([encoder, *(str(mean_se(each)) for each in values)])
    error = " ± SE" if images > 1 else ""
    return f"{name}: mean{error} over images ({images})\n{text_table(rows)}"


Against = Literal["view", "copy"]
_OCCLUSION_ROWS = 5
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
    summary = {each.name: _occlusion_summary([row.found[each.name] for row in rows]) for each in opened}
    records = [record for each in opened for row in rows for record in _records(row, each.name)]
    written = [write_numbers(out, "occlusion", settings, opened, summary, records)]
    for path, part in pages(out, "occlusion", len(rows), _OCCLUSION_ROWS):
        occlusion_figure(rows[part]).savefig(path)
        written.append(str(path))
    return f"{_occlusion_table(against, len(rows), summary)}\n\n{', '.join(written)}"


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


def _occlusion_summary(found: list[Occlusion]) -> Record:
    return {
        "similarity": mean_se([each.similarity for each in found]).mean,
        "mean_drop": mean_se([float(each.drops.mean()) for each in found]).mean,
        "largest_drop": mean_se([float(each.drops.max()) for each in found]).mean,
    }


def _occlusion_table(against: str, images: int, summary: Mapping[str, Record]) -> str:
    rows = [["encoder", "similarity", "mean drop", "largest drop"]]
    rows += [[name, *(f"{value:.4f}" for value in row.values())] for name, row in summary.items()]
    what = {"view": "with another view", "copy": "with the image itself"}[against]
    return f"similarity {what}, and its drop when a square is hidden: means over {images} image(s)\n{text_table(rows)}"
