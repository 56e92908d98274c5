"""Evaluation of validation, test and prediction: tiles that are counted, or mosaics that are stitched and scored."""

import math
import warnings
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from data_modules.batch import Batch
from data_modules.errors import UserError
from data_modules.geometry import Shape, Sweep
from data_modules.store import MosaicView
from lightning_emseg.core.distributed import from_first_rank, share_out, wait_for_all
from lightning_emseg.evaluation.evaluator import Evaluator
from lightning_emseg.evaluation.score_table import Row, ScoreTable
from lightning_emseg.inference.stitching import Blend, MosaicMaps, StitchedRows, SweepStitcher
from lightning_emseg.metrics.classes import MosaicCounts, MosaicMetric
from lightning_emseg.metrics.pixels import Counts

NonFinite = Literal["stop", "mark"]


class EvaluationData(Protocol):
    """What a loader's dataset says of itself.

    Attributes:
        mosaics: Mosaics in the order that batches refer to.
        sweep: Plan of whole mosaics, or ``None`` where tiles are scored one by one.
        label: Name of the foreground.
    """

    mosaics: tuple[MosaicView, ...]
    sweep: Sweep | None
    label: str


class TileEvaluation:
    """Pixel counts over tiles that do not overlap: the cheap validation.

    Args:
        data: Dataset of the loader.
        evaluator: Evaluator of the module's classes.
        device: Device of the module.
    """

    def __init__(self, data: EvaluationData, evaluator: Evaluator, device: torch.device) -> None:
        self._evaluator = evaluator
        self._counts = MosaicCounts(len(data.mosaics), len(evaluator.classes)).to(device)
        # Not Lightning's `log(sync_dist=True)`, which hangs when a rank has no tile and so nothing to log.
        self._loss = MeanMetric().to(device)

    def update(self, batch: Batch, probability: Tensor, loss: Tensor) -> Tensor:
        """Count the pixels of a batch.

        Args:
            batch: Tiles with their masks.
            probability: ``(B, *tile)``, 0–1, or ``(B, C, *tile)``.
            loss: Mean loss of the batch.

        Returns:
            What was counted, ``uint8 (B, *tile)``: quantised probabilities (255 is certain foreground), or positions of
            the most probable classes, the first of equals.
        """
        self._loss.update(loss, weight=len(probability))
        if self._evaluator.classes:
            counted = probability.argmax(dim=1).to(torch.uint8)
        else:
            counted = (probability.float() * 255).round().to(torch.uint8)
        for index, mosaic in enumerate(batch["mosaic"].tolist()):
            self._counts.update(mosaic, counted[index], batch["mask"][index])
        return counted

    def counts(self) -> Counts:
        """Sum the counts of each mosaic over all ranks."""
        counts: Counts = self._counts.compute()[0]
        return counts

    def loss(self) -> float:
        """Compute the mean loss of a tile over all ranks."""
        return float(self._loss.compute())


class MosaicEvaluation:
    """Stitching of a sweep, which counts every pixel of every mosaic once.

    Args:
        data: Dataset of the loader.
        evaluator: Evaluator of the module's classes.
        blend: Weights of overlapping tiles.
        device: Device of the module.
        score: Whether truth is read and counted; without it rows are only stitched.
        non_finite: Whether a tile with NaN or infinity in the network's output ends the run, or its pixels are
            marked; scores are never made of marked maps.
        maps: Folder for whole maps, for metrics of whole mosaics, which the first rank creates; ``None`` where nothing
            asks for them. Every rank makes the evaluation then.

    Attributes:
        maps: Whole maps of probabilities or of classes, if they are kept.
        marked: By key of the mosaic, the origins of the tiles that this process has marked so far, in px.
    """

    def __init__(
        self,
        data: EvaluationData,
        evaluator: Evaluator,
        blend: Blend,
        device: torch.device,
        score: bool = True,
        non_finite: NonFinite = "stop",
        maps: Path | None = None,
    ) -> None:
        assert data.sweep is not None
        self._label, self._mosaics, self._sweep = data.label, data.mosaics, data.sweep
        self._evaluator, self._score, self._non_finite = evaluator, score, non_finite
        self._stitcher = SweepStitcher(data.sweep, blend, device, len(evaluator.classes) or None)
        self._counts = MosaicCounts(len(data.mosaics), len(evaluator.classes)).to(device)
        self.marked: dict[str, list[Shape]] = {}
        self.maps = None if maps is None else MosaicMaps(maps, [mosaic.shape for mosaic in data.mosaics])
        if self.maps is not None:
            from_first_rank(self.maps.create)

    def update(self, batch: Batch, probability: Tensor) -> list[StitchedRows]:
        """Blend a batch in and count the rows that it finishes.

        Args:
            batch: One run of tiles.
            probability: ``(B, *tile)``, 0–1, or ``(B, C, *tile)``.

        Returns:
            The finished rows.

        Raises:
            UserError: if a tile that contributes to them is not finite, unless such tiles are marked.
        """
        origins = [tuple(origin) for origin in batch["origin"].tolist()]
        finished = []
        for rows in self._stitcher.add(origins, probability):
            if rows.failed:
                self._stop_or_mark(rows)
            finished.append(rows)
            if self.maps is not None:
                self.maps.write(rows.mosaic, rows.start, decide_rows(rows))
        for rows in finished if self._score else ():
            mosaic = self._mosaics[rows.mosaic]
            truth = mosaic.read_mask((rows.start, *(0,) * (len(mosaic.shape) - 1)), rows.probability.shape)
            self._counts.update(rows.mosaic, decide_rows(rows), torch.from_numpy(truth))
        return finished

    def _stop_or_mark(self, rows: StitchedRows) -> None:
        key, tile = self._mosaics[rows.mosaic].key, self._sweep.grids[rows.mosaic].tile
        if self._score or self._non_finite == "stop":
            named = ", ".join(map(str, rows.failed[:5])) + (", …" if len(rows.failed) > 5 else "")
            instead = (
                "scores always stop here; predict with --model.non_finite mark writes the rest of the map"
                if self._score
                else "or pass --model.non_finite mark to write the rest of the map, with these tiles' pixels marked"
            )
            raise UserError(
                f"{key}: the network's output is NaN or infinite in {len(rows.failed)} tile(s) of "
                f"{' × '.join(map(str, tile))} px that begin at {named}: look at the image there and check the "
                f"checkpoint; in 16-bit precision try --trainer.precision bf16-mixed or 32; {instead}"
            )
        # Every tile is named: the store says only which pixels are marked.
        named = ", ".join(map(str, rows.failed))
        warnings.warn(f"{key}: tiles with NaN or infinity are marked; they begin at {named} px", stacklevel=2)
        self.marked.setdefault(key, []).extend(rows.failed)

    def counts(self) -> tuple[list[str], Counts, dict[str, tuple[int, int]]]:
        """Sum the counts over all ranks.

        Returns:
            Keys of the complete mosaics, their counts, and the pixels seen and wanted of those that are not complete.
        """
        counts, seen = self._counts.compute()
        wanted = [math.prod(mosaic.shape) for mosaic in self._mosaics]
        complete = [index for index, pixels in enumerate(wanted) if seen[index] == pixels]
        partial = {
            mosaic.key: (int(seen[index]), wanted[index])
            for index, mosaic in enumerate(self._mosaics)
            if seen[index] < wanted[index]
        }
        return [self._mosaics[index].key for index in complete], counts[complete], partial

    def table(self, level: int, criterion: str, metrics: Sequence[MosaicMetric] = ()) -> ScoreTable:
        """Score the complete mosaics; the others are named and not scored.

        Args:
            level: Quantised threshold.
            criterion: How it was chosen.
            metrics: Metrics of whole mosaics, each of which one rank measures; these need ``maps``.
        """
        keys, counts, partial = self.counts()
        for key, (seen, total) in partial.items():
            warnings.warn(
                f"{key}: only {seen} of {total} pixels were predicted (cut short by fast_dev_run or limit_*_batches), "
                "so this mosaic is not scored",
                stacklevel=2,
            )
        criterion = "the most probable class" if self._evaluator.classes else criterion
        table = self._evaluator.table(keys, counts, self._label, level, criterion, partial)
        if not metrics:
            return table
        assert self.maps is not None
        maps, numbers = self.maps, {mosaic.key: number for number, mosaic in enumerate(self._mosaics)}
        maps.flush()
        wait_for_all()

        def measure(key: str) -> Row:
            mosaic, found = self._mosaics[numbers[key]], maps.read(numbers[key])
            truth = mosaic.read_mask((0,) * len(mosaic.shape), mosaic.shape)
            return self._evaluator.measure({"": metrics}, truth, found, level, mosaic.pixel_size_nm)

        for key, found in zip(keys, share_out(measure, keys), strict=True):
            table.rows[key].update(found)
        return table

    def remove_maps(self, first_rank: bool) -> None:
        """Delete the maps when no rank needs them any more; every rank calls this.

        Args:
            first_rank: Whether this is the rank that deletes them.
        """
        if self.maps is not None:
            # Other ranks may still read them.
            wait_for_all()
            if first_rank:
                self.maps.remove()


def decide_rows(rows: StitchedRows) -> Tensor:
    """Return the ``uint8`` map of stitched rows: positions of classes, or quantised probabilities."""
    return rows.probability if rows.classes is None else rows.classes


def datasets_of(loaders: Any) -> list[EvaluationData]:
    """Return the datasets behind Lightning's ``trainer.*_dataloaders``, one or several."""
    return [loader.dataset for loader in (loaders if isinstance(loaders, list | tuple) else [loaders])]


def check_classes(classes: Sequence[str], datasets: Sequence[EvaluationData]) -> None:
    """Refuse masks of other classes than the network's.

    Args:
        classes: Classes of the network, in the order of its maps; empty for one foreground.
        datasets: Datasets with labels, or without any; those that know no mosaics are left alone.

    Raises:
        UserError: naming both.
    """
    mosaics: Iterable[MosaicView] = chain.from_iterable(getattr(data, "mosaics", ()) for data in datasets)
    for mosaic in (mosaic for mosaic in mosaics if mosaic.mask is not None):
        named = [name for _, name in mosaic.classes]
        if named != list(classes):
            raise UserError(
                f"model.classes are {list(classes) or 'not given'} but the masks of {mosaic.key} have "
                f"{named or 'one foreground'}: pass the same list as --model.classes and --data.classes"
            )


def check_planes(metrics: Iterable[MosaicMetric], datasets: Sequence[EvaluationData]) -> None:
    """Refuse metrics of planes where a volume is to be scored whole, before it is predicted.

    Args:
        metrics: Metrics of whole mosaics.
        datasets: Datasets; those whose tiles are scored one by one, or that know no mosaics, are left alone.

    Raises:
        UserError: naming the metric and the volume.
    """
    names = [type(metric).__name__ for metric in metrics if metric.planes_only]
    mosaics = chain.from_iterable(data.mosaics for data in datasets if getattr(data, "sweep", None) is not None)
    volume = next((mosaic for mosaic in mosaics if len(mosaic.shape) > 2), None)
    if names and volume is not None:
        raise UserError(
            f"model.metrics: {names[0]} is defined for planes, but {volume.key} is a volume of {volume.shape} px: "
            f"score its sections one by one, or leave {names[0]} out of the metrics"
        )
