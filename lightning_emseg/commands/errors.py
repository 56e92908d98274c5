"""``emseg errors``: where a stored prediction errs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.core.tables import write_json
from lightning_emseg.evaluation.error_layers import error_layers, write_label_layers
from lightning_emseg.evaluation.error_pictures import write_analysis_files
from lightning_emseg.evaluation.errors import analyse
from lightning_emseg.evaluation.pairs import pair_up
from lightning_emseg.evaluation.reading import PairReader, SidePolarity
from lightning_emseg.evaluation.sources import prediction_store, truth_store
from lightning_emseg.evaluation.thresholds import SWEEP, default_threshold, given_threshold
from lightning_emseg.metrics.mosaic_pair import MosaicPair


def errors(
    prediction: str,
    truth: str,
    out: Path,
    split: str | None = None,
    samples: list[str] | None = None,
    label: str = "membrane",
    foreground: list[str | int] | None = None,
    threshold: str | None = None,
    tolerance_nm: float = 10.0,
    layers: bool = False,
) -> str:
    """Show where a prediction errs: error maps, worst regions, breaks and spurious membranes with place and size.

    Args:
        prediction: Store that `lightning predict` wrote.
        truth: Store of images and labels.
        out: Folder for index.json and the pictures, as `lightning test` writes them into errors-test/ of a run.
        split: That is looked at; all of them by default.
        samples: Names of those to look at, e.g. '["15"]'; all with a partner by default.
        label: Of the truth.
        foreground: Classes that are foreground, for a label of kind classes.
        threshold: A number above 0 and up to 1, or run:PATH for that of a run; what the prediction records by default.
        tolerance_nm: Distance up to which an error is one of thickness.
        layers: Whether errors, breaks and spurious membranes are added to the prediction store as label layers, for
            viewers; those of an earlier call are replaced.

    Raises:
        UserError: if something cannot be read or matched; the message names the file and what to do.
    """
    if threshold == SWEEP:
        raise UserError("--threshold sweep is for `emseg score`: pass the number that it finds")
    pairing = pair_up(
        prediction_store(prediction, split, None), truth_store(truth, split, label, foreground or ()), samples
    )
    choice = given_threshold(threshold) or default_threshold([pair.prediction for pair in pairing.pairs], False)
    reader = PairReader(SidePolarity("prediction", "bright"), SidePolarity("truth", "bright"))
    entries = []
    for pair in tqdm(pairing.pairs, desc="errors", unit="mosaic", disable=None):
        loaded = reader.read(pair)
        view = MosaicView.of(MosaicStore(truth).sample(pair.truth.key), None)
        comparison = MosaicPair(loaded.truth, loaded.probability, choice.level, view.pixel_size_nm)
        analysis = analyse(comparison, tolerance_nm)
        image = view.read_image((0,) * len(view.shape), view.shape)
        entries.append(write_analysis_files(out, pair.key, image, comparison, analysis))
        if layers:
            made_from = {"truth": truth, "threshold": choice.level / 255, "tolerance_nm": tolerance_nm}
            write_label_layers(prediction, pair.prediction.key, error_layers(analysis), made_from, overwrite=True)
    write_json(out / "index.json", {"mosaics": entries})
    added = f"; layers in {prediction}" if layers else ""
    last = f"threshold {choice.level / 255:.3f} ({choice.criterion}); {out / 'index.json'}{added}"
    return "\n".join([*pairing.notes, *_table(entries), last])


def _table(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    width = max(len("mosaic"), *(len(entry["key"]) for entry in entries))
    lines = [f"{'mosaic':<{width}}  false px, real  missed px, real  breaks  a mm  spurious  worst region (y, x)"]
    for entry in entries:
        pixels, breaks = entry["pixels"], entry["breaks"]
        false, missed = (pixels[name] - pixels[f"{name}_within_tolerance"] for name in ("fp", "fn"))
        number = breaks["count"] if breaks else "–"
        rate = "–" if not breaks or breaks["per_mm"] is None else f"{breaks['per_mm']:.0f}"
        worst = entry["regions"][0]["origin_px"] if entry["regions"] else "–"
        lines.append(
            f"{entry['key']:<{width}}  {false:>14,}  {missed:>15,}  {number:>6}  {rate:>4}  "
            f"{entry['spurious']['count']:>8}  {worst}"
        )
    return lines
