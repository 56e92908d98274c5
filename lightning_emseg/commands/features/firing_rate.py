"""``emseg features firing-rate``: to which distortions of images neurons are invariant."""

from pathlib import Path

import torch
from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.tile_set import SIDE
from lightning_emseg.commands.features.inputs import choose_tiles, open_encoders
from lightning_emseg.commands.features.output import make_folder, text_table, write_numbers
from lightning_emseg.core.tables import mean_se
from lightning_emseg.features.distortions import DISTORTIONS, Distortion
from lightning_emseg.features.firing_rate import (
    FEWEST_IMAGES,
    NEAR_MAXIMUM,
    THRESHOLD,
    FiringRates,
    images_needed,
    measure_firing,
)
from lightning_emseg.report.firing_rate_plot import firing_rate_figure


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
        "threshold_percentile": 100 * THRESHOLD,
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
    return f"{_table(found, len(tiles))}\n\n{out / 'firing-rate.png'}, {files}"


def _means(rates: FiringRates) -> dict[str, float]:
    return {each.name: _mean(rates, each) for each in DISTORTIONS}


def _mean(rates: FiringRates, distortion: Distortion) -> float:
    curve = zip(distortion.strengths, rates.curves[distortion.name], strict=True)
    return mean_se([point.mean for strength, point in curve if strength != distortion.identity]).mean


def _table(found: dict[str, FiringRates], tiles: int) -> str:
    rows = [["encoder", "neurons", *(each.name for each in DISTORTIONS)]]
    for name, rates in found.items():
        means = [f"{mean:.3f}" for mean in _means(rates).values()]
        rows.append([name, f"{rates.selective:,} of {rates.neurons:,}", *means])
    return f"mean firing rate of {tiles} tiles, averaged over the strengths of a distortion\n{text_table(rows)}"
