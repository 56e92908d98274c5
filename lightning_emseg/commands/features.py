"""Commands ``emseg features``: invariance, selectivity and importance of an encoder's features."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.tile_set import SIDE
from lightning_emseg.commands.features_inputs import (
    Record,
    choose_tiles,
    make_folder,
    open_encoders,
    read_images,
    read_pairs,
    write_results,
)
from lightning_emseg.core.tables import align, mean_se
from lightning_emseg.features.downsampling import keep_resolution
from lightning_emseg.features.firing_rate import (
    DISTORTIONS,
    FEWEST_IMAGES,
    FIRING_THRESHOLD,
    NEAR_MAXIMUM,
    FiringRates,
    firing_rate_figure,
    images_needed,
    measure_firing,
)
from lightning_emseg.features.occlusion import (
    SQUARE_PX,
    STEP_PX,
    OcclusionRow,
    measure_occlusion,
    occlusion_figure,
    second_view,
    square_corners,
)
from lightning_emseg.features.selectivity import (
    FILTERS,
    RESPONSE_THRESHOLD,
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
        encoders: Encoders to compare.
        images: Folder of grey images, or a tile set.
        out: Folder for the results.
        number: Number of random tiles; 100 in the paper.
        noise_images: Number of noise images for the thresholds above which neurons fire.
        size: Side of the tiles in px, best the one that encoders were trained with.
        batch_size: Tiles that are encoded at a time.
        seed: Random seed for choosing tiles and for the noise images.

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
    records: list[Record] = []
    summary: dict[str, Record] = {}
    table = [["encoder", "neurons", *(each.name for each in DISTORTIONS)]]
    for name, rates in found.items():
        means = {}
        for each in DISTORTIONS:
            curve = list(zip(each.strengths, rates.curves[each.name], strict=True))
            records += [
                {"encoder": name, "distortion": each.name, "strength": strength, "rate": point.mean, "se": point.se}
                for strength, point in curve
            ]
            means[each.name] = mean_se([point.mean for strength, point in curve if strength != each.identity]).mean
        summary[name] = {"neurons": rates.neurons, "selective": rates.selective, **means}
        row = [f"{rates.selective:,} of {rates.neurons:,}", *(f"{mean:.3f}" for mean in means.values())]
        table.append([name, *row])
    files = write_results(out, "firing-rate", settings, opened, summary, records, [firing_rate_figure(found)])
    what = f"mean firing rate of {len(tiles)} tiles, averaged over the strengths of a distortion"
    return f"{what}\n{align(table)}\n\n{files}"


def selectivity(
    encoders: list[str], images: str, labels: str, out: Path, name: str = "organelle", drop_stages: int = 2
) -> str:
    """Measure how well an encoder's 32 best maps find an organelle, without any training.

    Maps of the last layer are correlated with the mask, the best are averaged and binarised (Conrad and Narayan 2021,
    Figure 3b), image by image. As the best are chosen with the mask they are judged by, numbers compare encoders only.
    Writes selectivity.png, .csv and .json.

    Args:
        encoders: Encoders to compare.
        images: Folder of grey images or one image; whole images are encoded, so cut those of thousands of px first.
        labels: Folder of masks, or one, of two values with the organelle bright; matched by name.
        out: Folder for the results.
        name: Name of the organelle.
        drop_stages: Number of the last downsamplings to leave out; 1 for nuclei, 2 for mitochondria, 4 for ER;
            0 for transformers, which have none.

    Raises:
        UserError: if an encoder cannot be made, images and masks do not match, or a mask is empty or full.
    """
    smallest_px, rows_a_page = 32, 6
    samples = read_pairs(images, labels)
    if small := [sample for sample, image, _ in samples if min(image.shape) < smallest_px]:
        raise UserError(f"{images}: {small[0]} is smaller than {smallest_px} px, which leaves no map: leave it out")
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
    settings = {
        "images": images,
        "labels": labels,
        "name": name,
        "drop_stages": drop_stages,
        "filters": FILTERS,
        "threshold": RESPONSE_THRESHOLD,
    }
    scores = {"response_r": "r of the mean map", "best_r": "r of the best map", "iou": "IoU"}
    records: list[Record] = []
    summary: dict[str, Record] = {}
    table = [["encoder", *scores.values()]]
    for encoder in opened:
        mine = [_record_selectivity(row, encoder.name) for row in rows]
        means = {score: mean_se([record[score] for record in mine]) for score in scores}
        summary[encoder.name] = {
            key: value for score, each in means.items() for key, value in ((score, each.mean), (f"{score}_se", each.se))
        }
        table.append([encoder.name, *map(str, means.values())])
        records += mine
    figures = [selectivity_figure(rows[at : at + rows_a_page], name) for at in range(0, len(rows), rows_a_page)]
    files = write_results(out, "selectivity", settings, opened, summary, records, figures)
    error = " ± SE" if len(rows) > 1 else ""
    return f"{name}: mean{error} over images ({len(rows)})\n{align(table)}\n\n{files}"


def _record_selectivity(row: SelectivityRow, encoder: str) -> Record:
    found = row.found[encoder]
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


def occlusion(
    encoders: list[str],
    images: str,
    out: Path,
    against: Literal["view", "copy"] = "view",
    batch_size: int = 32,
    seed: int = 0,
) -> str:
    """Show which regions of images encoders recognise them by: squares of 61 px are hidden, one every 30 px.

    Importance is by how much the similarity falls, the dot product of pooled features of length 1 (Conrad and Narayan
    2021, Figure 3c), rescaled to 0–1 in each heat map. Writes occlusion.png, .csv (a row a square) and .json.

    Args:
        encoders: Encoders to compare.
        images: Folder of grey images, or one image; all at least 61 px.
        out: Folder for the results.
        against: Image that occluded ones are compared with: view is another crop, flipped and rescaled at random
            (Results); copy is the image itself (Methods).
        batch_size: Occluded images that are encoded at a time.
        seed: Random seed for the other views.

    Raises:
        UserError: if an encoder cannot be made, there are no images, or one is smaller than a square.
    """
    if batch_size < 1:
        raise UserError(f"--batch-size {batch_size}: give at least 1")
    rows_a_page, squares = 5, 0
    samples = read_images(images)
    for name, image in samples:
        try:
            squares += len(square_corners(image.shape))
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
    opened = open_encoders(encoders, [image for _, image in samples])
    make_folder(out)
    rows = []
    with tqdm(total=squares * len(opened), unit="square", disable=None) as bar:
        for index, (name, image) in enumerate(samples):
            view = second_view(image, np.random.default_rng([seed, index])) if against == "view" else None
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
    records: list[Record] = []
    summary: dict[str, Record] = {}
    table = [["encoder", "similarity", "mean drop", "largest drop"]]
    for encoder in opened:
        mine = {row.name: row.found[encoder.name] for row in rows}
        records += [
            {"encoder": encoder.name, "image": name, "y": y, "x": x, "similarity": each.similarity - drop, "drop": drop}
            for name, each in mine.items()
            for (y, x), drop in zip(each.corners.tolist(), each.drops.tolist(), strict=True)
        ]
        means = {
            "similarity": mean_se([each.similarity for each in mine.values()]).mean,
            "mean_drop": mean_se([float(each.drops.mean()) for each in mine.values()]).mean,
            "largest_drop": mean_se([float(each.drops.max()) for each in mine.values()]).mean,
        }
        summary[encoder.name] = means
        table.append([encoder.name, *(f"{value:.4f}" for value in means.values())])
    figures = [occlusion_figure(rows[at : at + rows_a_page]) for at in range(0, len(rows), rows_a_page)]
    files = write_results(out, "occlusion", settings, opened, summary, records, figures)
    what = {"view": "with another view", "copy": "with the image itself"}[against]
    title = f"similarity {what}, and its drop when a square is hidden: means over {len(rows)} image(s)"
    return f"{title}\n{align(table)}\n\n{files}"
