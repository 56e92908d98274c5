"""Attribution fields and their areas at validation time."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from data_modules.batch import Batch
from data_modules.errors import UserError
from data_modules.grid import Shape
from data_modules.store import MosaicView
from lightning_emseg.attribution.area import NORMALISATION, THRESHOLDS
from lightning_emseg.attribution.chosen import checked_pixels
from lightning_emseg.attribution.integrated_gradients import IntegratedGradients
from lightning_emseg.attribution.measurement import (
    Found,
    Setting,
    Unit,
    accuracy_of,
    exact_units,
    measure,
    share_of,
    shared_units,
)
from lightning_emseg.attribution.method import AttributionMethod
from lightning_emseg.attribution.network_copy import detached_copy
from lightning_emseg.attribution.outputs import GreyNetwork
from lightning_emseg.attribution.picks import Picks, choose_windows, pick, spread
from lightning_emseg.attribution.points import OUTCOMES
from lightning_emseg.attribution.sides import refuse_planes, strides_of, window_sides
from lightning_emseg.attribution.table import mean_completeness, relative_error
from lightning_emseg.attribution.windows import window_shape
from lightning_emseg.callbacks.attribution_report import AttributionReport, publish
from lightning_emseg.distributed import from_all_ranks, from_first_rank
from lightning_emseg.metrics.pixel import level_of
from lightning_emseg.modules.evaluation import datasets_of
from lightning_emseg.modules.mixin import SegmentationMixin

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
        every_n_epochs: Of a fit; and after its last one.
        max_share: In a fit, it is put off as long as it would have cost more than this share of all validation so far,
            in forward passes over pixels, so that the time of small validation sets is not spent on it; ``null`` for
            never.
        seed: Of windows, pixels and noise.
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
        if isinstance(pl_module, SegmentationMixin) and pl_module.outputs.classes:
            raise UserError("AttributionFields is of one foreground: leave it out where model.classes are told apart")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the time."""
        self._begin(pl_module, trainer.val_dataloaders)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the time."""
        self._begin(pl_module, trainer.test_dataloaders)

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
        self._validated_s += time.perf_counter() - self._began
        if not trainer.sanity_checking:
            self._run(trainer, pl_module, trainer.val_dataloaders)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Attribute."""
        self._validated_s += time.perf_counter() - self._began
        self._run(trainer, pl_module, trainer.test_dataloaders)

    def _begin(self, module: pl.LightningModule, loaders: Any) -> None:
        assert isinstance(module, SegmentationMixin)
        refuse_planes(module.network_axes, len(datasets_of(loaders)[0].mosaics[0].shape))
        self._began = time.perf_counter()

    def _run(self, trainer: pl.Trainer, module: pl.LightningModule, loaders: Any) -> None:
        assert isinstance(module, SegmentationMixin)
        views = datasets_of(loaders)[0].mosaics
        # Decided on one rank, as ranks have seen different numbers of tiles.
        if not from_first_rank(lambda: self._is_due(trainer, module, views)):
            return
        began = time.perf_counter()
        # The copy goes when this is over, and with it its memory; some methods of captum draw random numbers.
        with torch.random.fork_rng(_devices(module)):
            torch.manual_seed(self.seed)
            report = self._attribute(trainer, module, views)
        if report is not None and trainer.is_global_zero:
            seconds = time.perf_counter() - began
            share = seconds / self._validated_s
            publish(trainer, replace(report, record={**report.record, "seconds": seconds, "validation_share": share}))
        self._validated_s = 0.0

    def _is_due(self, trainer: pl.Trainer, module: SegmentationMixin, views: Sequence[MosaicView]) -> bool:
        if trainer.state.fn != TrainerFn.FITTING:
            return True
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs
        if epoch % self.every_n_epochs and epoch != last and not self._postponed:
            return False
        cost = self._cost(module, views)
        self._postponed = self.max_share is not None and self._spent + cost > self.max_share * self._seen
        if self._postponed:
            rank_zero_info(
                f"attribution fields are put off: they would cost more than {self.max_share:.0%} of all validation so "
                "far (max_share: null lifts this; `lightning validate` and `emseg attribute` do it at any time)"
            )
            return False
        self._spent += cost
        return True

    def _cost(self, module: SegmentationMixin, views: Sequence[MosaicView]) -> float:
        """Pixels of forward passes that one run takes, about; a backward pass counts twice."""
        fields = len(OUTCOMES) * self.per_outcome / _SHARED + self.check
        sides = window_shape(self._size(module, views), views[0].shape, 1)
        return self.method.passes * fields * math.prod(sides)

    def _size(self, module: SegmentationMixin, views: Sequence[MosaicView]) -> Shape:
        return window_sides(self.window, module.hparams, len(views[0].shape))

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
        setting = Setting(views, self.method.baseline, THRESHOLDS, self.seed)
        checked = checked_pixels([each.chosen for each in picks], self.check)

        def compute(units: Sequence[Unit]) -> list[Found]:
            mine = share_of(units, trainer.global_rank, trainer.world_size)
            return list(chain.from_iterable(from_all_ranks(lambda: list(measure(bound, setting, mine, module.device)))))

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
        return AttributionReport(picks, shared, accuracy_of([*exact, *shared], THRESHOLDS), record)

    def _pick(self, network: GreyNetwork, module: SegmentationMixin, views: Sequence[MosaicView]) -> list[Picks]:
        size, strides = self._size(module, views), _strides(module, views)
        places = choose_windows(views, size, strides, self.windows, self.seed)
        level, numbers = level_of(float(module.threshold)), spread(self.per_outcome, max(1, len(places)))
        return [
            pick(network, views[place.mosaic], place, level, number, self.seed, module.device)
            for place, number in zip(places, numbers, strict=False)
        ]


def _strides(module: SegmentationMixin, views: Sequence[MosaicView]) -> Shape:
    return strides_of(module.network, module.stride, len(views[0].shape))


def _devices(module: pl.LightningModule) -> list[torch.device]:
    return [module.device] if module.device.type == "cuda" else []


def _merged(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all ranks' methods say of themselves; each knows only of the windows that it has attributed in."""
    merged = dict(records[0])
    for name, value in merged.items():
        if isinstance(value, Mapping):
            everywhere = {key: found for record in records for key, found in record[name].items()}
            merged[name] = dict(sorted(everywhere.items()))
    return merged
