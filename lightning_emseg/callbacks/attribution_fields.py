"""Attribution fields and their areas at validation time."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from data_modules.batch import Batch
from data_modules.errors import UserError
from data_modules.geometry import Shape
from data_modules.store import MosaicView
from lightning_emseg.attribution.areas import NORMALISATION, THRESHOLDS, Accuracy
from lightning_emseg.attribution.integrated_gradients import IntegratedGradients
from lightning_emseg.attribution.measurement import (
    MeasuredPixel,
    StudySetting,
    WorkUnit,
    exact_units,
    measure_accuracy,
    measure_units,
    shared_units,
    take_share,
)
from lightning_emseg.attribution.method import AttributionMethod
from lightning_emseg.attribution.network import GreyNetwork, detached_copy
from lightning_emseg.attribution.pictures import figure_picture, window_figure
from lightning_emseg.attribution.points import OUTCOMES, choose_checked
from lightning_emseg.attribution.sampling import Picks, choose_windows, pick_pixels, spread_evenly
from lightning_emseg.attribution.table import (
    FieldSummary,
    Record,
    mean_completeness,
    point_records,
    relative_error,
    summarise,
    summary_records,
    summary_text,
)
from lightning_emseg.attribution.windows import refuse_planes, strides_of, window_shape, window_sides
from lightning_emseg.callbacks.evaluation_files import log_picture
from lightning_emseg.core.distributed import from_all_ranks, from_first_rank
from lightning_emseg.core.pictures import save
from lightning_emseg.core.tables import write_csv, write_json
from lightning_emseg.evaluation.mosaics import datasets_of
from lightning_emseg.metrics.pixels import level_of
from lightning_emseg.modules.mixin import SegmentationMixin


@dataclass(frozen=True)
class AttributionReport:
    """One run of the callback.

    Attributes:
        picks: Windows with their chosen pixels.
        found: Measurements of each pixel.
        accuracy: Accuracy of fast fields, where they were compared with exact ones.
        record: Settings, JSON-ready.
    """

    picks: Sequence[Picks]
    found: Sequence[MeasuredPixel]
    accuracy: Accuracy | None
    record: Mapping[str, Any]


def publish(trainer: pl.Trainer, report: AttributionReport) -> None:
    """Write and log a report; called on rank 0."""
    assert trainer.state.fn is not None
    verb, fitting = trainer.state.fn.value, trainer.state.fn.value == "fit"
    folder = Path(trainer.default_root_dir) / "attribution"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [each.row for each in report.found]
    summaries = summarise(rows, THRESHOLDS, THRESHOLDS)
    when: Record = {"epoch": trainer.current_epoch, "step": trainer.global_step}
    points = [{**when, **record} for record in point_records(rows, THRESHOLDS, THRESHOLDS)]
    write_csv(folder / f"points-{verb}.csv", points, append=fitting)
    means = [{**when, **record} for record in summary_records(summaries)]
    write_csv(folder / f"summary-{verb}.csv", means, append=fitting)
    accuracy = report.accuracy and asdict(report.accuracy)
    windows = [
        {
            "mosaic": each.window.mosaic,
            "origin_px": each.chosen.place.origin,
            "size_px": each.window.truth.shape,
            "pixel_size_nm": each.window.pixel_size_nm,
        }
        for each in report.picks
    ]
    record = {**when, **report.record, "fast_against_exact": accuracy, "windows": windows}
    write_json(folder / f"{verb}.json", record)
    text = summary_text(summaries, report.accuracy, report.record["exact_completeness_error"])
    rank_zero_info(f"\n{text}\n{folder / f'summary-{verb}.csv'}")
    for logger in trainer.loggers:
        logger.log_metrics(collect_scalars(summaries, report), trainer.global_step)
        if isinstance(logger, WandbLogger):
            logger.log_table("attribution/points", list(points[0]), [list(point.values()) for point in points])
    _draw(trainer, report, f"epoch-{trainer.current_epoch:04d}" if fitting else verb)


def collect_scalars(summaries: Sequence[FieldSummary], report: AttributionReport) -> dict[str, float]:
    """Collect means, errors and numbers of pixels under names in ``attribution/``."""
    values: dict[str, float] = {}
    for each in summaries:
        place = f"{each.threshold:g}/{each.outcome}"
        for size in each.sizes:
            values[f"attribution/{size.extent.column}_{place}"] = size.nm.mean
            values[f"attribution/share{size.extent.suffix}_{place}"] = size.share.mean
            if size.nm.se is not None:
                values[f"attribution/{size.extent.column}_se_{place}"] = size.nm.se
        values[f"attribution/pixels/{each.outcome}"] = float(each.pixels)
        values[f"attribution/completeness_error/{each.outcome}"] = each.completeness
    if report.accuracy is not None:
        for k, error in zip(report.accuracy.thresholds, report.accuracy.mean_error, strict=True):
            values[f"attribution/fast_error_{k:g}"] = error
    values["attribution/validation_share"] = float(report.record["validation_share"])
    return values


def _draw(trainer: pl.Trainer, report: AttributionReport, name: str) -> None:
    for number, picks in enumerate(report.picks):
        if not picks.chosen.pixels:
            continue
        suffix = f"-{number}" if len(report.picks) > 1 else ""
        chosen = picks.chosen
        kept = {
            each.field.pixel: (each.row, each.field)
            for each in report.found
            if each.field is not None and each.place == chosen.place
        }
        fields = [kept[chosen.pixels[at]] for at in chosen.first_of_each()]
        reach = report.record.get("reach_px")
        picture = figure_picture(window_figure(picks.window, picks.probability, fields, THRESHOLDS, reach))
        save(picture, Path(trainer.default_root_dir) / "figures" / f"attribution-{name}{suffix}.png")
        for logger in trainer.loggers:
            log_picture(logger, f"attribution{suffix}", picture, trainer.global_step)


_SHARED = 3
"""Pixels that share a pass, at least, when the cost is estimated beforehand."""


class AttributionFields(pl.Callback):
    """Which pixels membrane decisions rest on, and how large these fields are (Shi et al. 2021, eqs. 7–10).

    After chosen validations, in ``validate`` and in ``test``, it attributes the network's answer at some pixels of
    every outcome (TP, FP, FN, TN; of the window's own prediction at the threshold), the same places each time as far as
    their outcome stays. It works on a copy of the network in evaluation mode and single precision and draws no random
    numbers, so that training goes on to the bit as without it; under several ranks each computes a part.

    Written are ``attribution/points-<verb>.csv`` (a row a pixel) and ``summary-<verb>.csv`` (mean ± SE of S_k by
    outcome and threshold, in nm² and as share of the window; of volumes in nm³, and the nm² that it covers in xy),
    which a fit appends to, ``attribution/<verb>.json`` (settings and measured errors) and
    ``figures/attribution-*.png``; scalars, pictures and tables go to the loggers.

    Args:
        method: Integrated gradients with 20 steps by default, on the fast path, whose error is measured each time.
        per_outcome: Pixels of each outcome, over all windows.
        windows: Number of windows.
        window: Side of a window in px, in volumes no larger than the patch that the network is built for; or one value
            an axis. Smaller mosaics get smaller windows.
        check: Pixels whose exact fields are computed too, to measure the error of the others.
        every_n_epochs: Epochs of a fit between two attributions; the last epoch has one too.
        max_share: Largest share of all validation so far that it may cost in a fit, else it is put off,
            in forward passes over pixels, so that the time of small validation sets is not spent on it; ``null`` for
            never.
        seed: Random seed for windows, pixels and noise.
    """

    def __init__(
        self,
        method: AttributionMethod | None = None,
        per_outcome: int = 8,
        windows: int = 2,
        window: int | list[int] = 512,
        check: int = 4,
        every_n_epochs: int = 10,
        max_share: float | None = 0.2,
        seed: int = 0,
    ) -> None:
        self.method = method or IntegratedGradients(steps=20)
        self.per_outcome, self.windows, self.window, self.check = per_outcome, windows, window, check
        self.every_n_epochs, self.max_share, self.seed = every_n_epochs, max_share, seed
        self._reach: Shape | None = None
        self._seen = self._spent = 0.0
        self._began = self._validated_s = 0.0
        self._postponed = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what has several classes.

        Raises:
            UserError: because fields are of one foreground's probability.
        """
        if isinstance(pl_module, SegmentationMixin) and pl_module.classes:
            raise UserError("AttributionFields supports binary models only; leave it out where model.classes are given")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the time, and refuse networks of images on volumes."""
        assert isinstance(pl_module, SegmentationMixin)
        refuse_planes(pl_module.network_axes, len(_views(trainer)[0].shape))
        self._began = time.perf_counter()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count what validation costs."""
        self._seen += batch["image"].numel() * trainer.world_size

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Attribute, if it is time."""
        assert isinstance(pl_module, SegmentationMixin)
        self._validated_s += time.perf_counter() - self._began
        views = _views(trainer)
        # Decided on one rank, as ranks have seen different numbers of tiles.
        if trainer.sanity_checking or not from_first_rank(lambda: self._is_due(trainer, pl_module, views)):
            return
        began = time.perf_counter()
        # The copy goes when this is over, and with it its memory; some methods of captum draw random numbers.
        with torch.random.fork_rng([pl_module.device] if pl_module.device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            report = self._attribute(trainer, pl_module, views)
        if report is not None and trainer.is_global_zero:
            seconds = time.perf_counter() - began
            share = seconds / self._validated_s
            publish(trainer, replace(report, record={**report.record, "seconds": seconds, "validation_share": share}))
        self._validated_s = 0.0

    on_test_start, on_test_end = on_validation_start, on_validation_end

    def _is_due(self, trainer: pl.Trainer, module: SegmentationMixin, views: Sequence[MosaicView]) -> bool:
        if trainer.state.fn != TrainerFn.FITTING:
            return True
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs
        if epoch % self.every_n_epochs and epoch != last and not self._postponed:
            return False
        # Pixels of forward passes that one run takes, about; a backward pass counts twice.
        fields = len(OUTCOMES) * self.per_outcome / _SHARED + self.check
        size = window_sides(self.window, module.hparams, len(views[0].shape))
        cost = self.method.passes * fields * math.prod(window_shape(size, views[0].shape, 1))
        self._postponed = self.max_share is not None and self._spent + cost > self.max_share * self._seen
        if self._postponed:
            rank_zero_info(
                f"attribution fields are put off: they would cost more than {self.max_share:.0%} of all validation so "
                "far (max_share: null lifts this; `lightning validate` and `emseg attribute` do it at any time)"
            )
            return False
        self._spent += cost
        return True

    def _attribute(
        self, trainer: pl.Trainer, module: SegmentationMixin, views: Sequence[MosaicView]
    ) -> AttributionReport | None:
        network = detached_copy(module.network, float(module.grey_mean), float(module.grey_std))
        picks = from_first_rank(lambda: self._pick(network, module, views))
        if not any(each.chosen.pixels for each in picks):
            rank_zero_warn("no attribution fields: no window shows both foreground and background")
            return None
        bound = self.method.bind(network, _strides(module, views))
        bound.reach = self._reach
        setting = StudySetting(views, self.method.baseline, THRESHOLDS, self.seed)
        checked = choose_checked([each.chosen for each in picks], self.check)

        def compute(units: Sequence[WorkUnit]) -> list[MeasuredPixel]:
            mine = take_share(units, trainer.global_rank, trainer.world_size)
            return list(
                chain.from_iterable(from_all_ranks(lambda: list(measure_units(bound, setting, mine, module.device))))
            )

        exact = compute(
            [unit for each, check in zip(picks, checked, strict=True) for unit in exact_units(each.chosen, check)]
        )
        if bound.reach is None:
            bound.calibrate([found.field for found in exact if found.field is not None], THRESHOLDS[0])
            self._reach = bound.reach
        shared = compute(
            [
                unit
                for each, check in zip(picks, checked, strict=True)
                for unit in shared_units(bound, each.chosen, {*check, *each.chosen.first_of_each()})
            ]
        )
        record = {
            **_merged(from_all_ranks(lambda: bound.record)),
            "exact_completeness_error": mean_completeness([relative_error(each.row) for each in exact]),
            "normalisation": NORMALISATION,
            "threshold": float(module.threshold),
            "seed": self.seed,
            "pixels_per_outcome": self.per_outcome,
        }
        return AttributionReport(picks, shared, measure_accuracy([*exact, *shared], THRESHOLDS), record)

    def _pick(self, network: GreyNetwork, module: SegmentationMixin, views: Sequence[MosaicView]) -> list[Picks]:
        size, strides = window_sides(self.window, module.hparams, len(views[0].shape)), _strides(module, views)
        places = choose_windows(views, size, strides, self.windows, self.seed)
        level, numbers = level_of(float(module.threshold)), spread_evenly(self.per_outcome, max(1, len(places)))
        return [
            pick_pixels(network, views[place.mosaic], place, level, number, self.seed, module.device)
            for place, number in zip(places, numbers, strict=False)
        ]


def _views(trainer: pl.Trainer) -> Sequence[MosaicView]:
    loaders = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
    return datasets_of(loaders)[0].mosaics


def _strides(module: SegmentationMixin, views: Sequence[MosaicView]) -> Shape:
    return strides_of(module.network, module.stride, len(views[0].shape))


def _merged(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the records of all ranks; each knows only of the windows that it has attributed in."""
    merged = dict(records[0])
    for name, value in merged.items():
        if isinstance(value, Mapping):
            everywhere = {key: found for record in records for key, found in record[name].items()}
            merged[name] = dict(sorted(everywhere.items()))
    return merged
