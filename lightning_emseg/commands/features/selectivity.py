"""``emseg features selectivity``: how well maps of an encoder light up where an organelle is."""

from pathlib import Path

from tqdm import tqdm

from data_modules.errors import UserError
from lightning_emseg.commands.features.inputs import open_encoders, read_pairs
from lightning_emseg.commands.features.output import Record, make_folder, pages, text_table, write_numbers
from lightning_emseg.core.tables import mean_se
from lightning_emseg.features.encoder import keep_resolution
from lightning_emseg.features.selectivity import FILTERS, THRESHOLD, Selectivity, measure_selectivity
from lightning_emseg.report.selectivity_plot import SelectivityRow, selectivity_figure

_SMALLEST_PX = 32
_ROWS = 6
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
    summary = {encoder.name: _summary(records, encoder.name) for encoder in opened}
    settings = {
        "images": images,
        "labels": labels,
        "name": name,
        "drop_stages": drop_stages,
        "filters": FILTERS,
        "threshold": THRESHOLD,
    }
    written = [write_numbers(out, "selectivity", settings, opened, summary, records)]
    for path, part in pages(out, "selectivity", len(rows), _ROWS):
        selectivity_figure(rows[part], name).savefig(path)
        written.append(str(path))
    return f"{_table(name, len(rows), records, summary)}\n\n{', '.join(written)}"


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


def _summary(records: list[Record], encoder: str) -> Record:
    mine = [record for record in records if record["encoder"] == encoder]
    found = {score: mean_se([record[score] for record in mine]) for score in _SCORES}
    return {
        key: value for score, each in found.items() for key, value in ((score, each.mean), (f"{score}_se", each.se))
    }


def _table(name: str, images: int, records: list[Record], summary: Record) -> str:
    rows = [["encoder", *_SCORES.values()]]
    for encoder in summary:
        values = [[record[score] for record in records if record["encoder"] == encoder] for score in _SCORES]
        rows.append([encoder, *(str(mean_se(each)) for each in values)])
    error = " ± SE" if images > 1 else ""
    return f"{name}: mean{error} over images ({images})\n{text_table(rows)}"
