"""``emseg errors``: where a stored prediction errs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.core.tables import align, write_json
from lightning_emseg.evaluation.error_layers import make_error_layers, write_label_layers
from lightning_emseg.evaluation.error_pictures import write_error_files
from lightning_emseg.evaluation.pair_scores import SWEEP, find_default_threshold, parse_threshold
from lightning_emseg.evaluation.reading import PairReader
from lightning_emseg.evaluation.sources import pair_up, prediction_store, truth_store


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
        split: Split to analyse; all splits by default.
        samples: Names of those to look at, e.g. '["15"]'; all with a partner by default.
        label: Label of the truth.
        foreground: Classes that are foreground, for a label of kind classes.
        threshold: Number above 0 and up to 1, or run:PATH for that of a run; what the prediction records by default.
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
    level, criterion = parse_threshold(threshold) or find_default_threshold(
        [each.prediction for each in pairing.pairs], False
    )
    reader = PairReader((), "bright", "bright")
    entries = []
    for pair in tqdm(pairing.pairs, desc="errors", unit="mosaic", disable=None):
        loaded = reader.read(pair)
        view = MosaicView.of(MosaicStore(truth).sample(pair.truth.key), None)
        image = view.read_image((0,) * len(view.shape), view.shape)
        entry, found = write_error_files(
            out, pair.key, image, loaded.truth, loaded.found, level, view.pixel_size_nm, tolerance_nm
        )
        entries.append(entry)
        if layers:
            made_from = {"truth": truth, "threshold": level / 255, "tolerance_nm": tolerance_nm}
            write_label_layers(prediction, pair.prediction.key, make_error_layers(found), made_from, overwrite=True)
    write_json(out / "index.json", {"mosaics": entries})
    added = f"; layers in {prediction}" if layers else ""
    last = f"threshold {level / 255:.3f} ({criterion}); {out / 'index.json'}{added}"
    return "\n".join([*pairing.notes, _table(entries), last])


def _table(entries: Sequence[Mapping[str, Any]]) -> str:
    rows = [["mosaic", "false px, real", "missed px, real", "breaks", "a mm", "spurious", "worst region (y, x)"]]
    for entry in entries:
        pixels, breaks = entry["pixels"], entry["breaks"]
        false, missed = (pixels[name] - pixels[f"{name}_within_tolerance"] for name in ("fp", "fn"))
        number = str(breaks["count"]) if breaks else "–"
        rate = "–" if not breaks or breaks["per_mm"] is None else f"{breaks['per_mm']:.0f}"
        worst = str(entry["regions"][0]["origin_px"]) if entry["regions"] else "–"
        rows.append([entry["key"], f"{false:,}", f"{missed:,}", number, rate, str(entry["spurious"]["count"]), worst])
    return align(rows)
