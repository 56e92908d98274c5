"""Per-dataloader evaluation state of validation, test and prediction."""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
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
from lightning_emseg.core.distributed import from_first_rank, shared_out, wait_for_all
from lightning_emseg.evaluation.outputs import Outputs
from lightning_emseg.evaluation.score_table import Row, ScoreTable
from lightning_emseg.inference.stitching import Blend, MosaicMaps, StitchedRows, SweepStitcher
from lightning_emseg.metrics.classes import MosaicMetric
from lightning_emseg.metrics.pixels import Counts

NonFinite = Literal["stop", "mark"]


class EvaluationData(Protocol):
    """What a loader's dataset says of itself.

    Attributes:
        mosaics: In the order that batches refer to.
        sweep: Plan of whole mosaics, or ``None`` where tiles are scored one by one.
        label: Name of the foreground.
    """

    mosaics: tuple[MosaicView, ...]
    sweep: Sweep | None
    label: str


class TileScores:
    """Pixel counts over tiles that do not overlap: the cheap validation.

    Args:
        data: The loader's dataset.
        outputs: What is counted.
        device: Of the module.
    """

    def __init__(self, data: EvaluationData, outputs: Outputs, device: torch.device) -> None:
        self.label, self._outputs = data.label, outputs
        self._counts = outputs.counts(len(data.mosaics)).to(device)
        # Not Lightning's `log(sync_dist=True)`, which hangs when a rank has no tile and so nothing to log.
        self._loss = MeanMetric().to(device)

    def update(self, batch: Batch, probability: Tensor, loss: Tensor) -> Tensor:
        """Count the pixels of a batch.

        Args:
            batch: Tiles with their masks.
            probability: ``(B, *tile)``, 0–1, or ``(B, C, *tile)``.
            loss: Mean loss of the batch.

        Returns:
            What was counted, ``uint8 (B, *tile)``: quantised probabilities, or the most probable classes.
        """
        self._loss.update(loss, weight=len(probability))
        counted = self._outputs.counted(probability)
        for index, mosaic in enumerate(batch["mosaic"].tolist()):
            self._counts.update(mosaic, counted[index], batch["mask"][index])
        return counted

    def counts(self) -> Counts:
        """Counts of each mosaic over all ranks."""
        counts: Counts = self._counts.compute()[0]
        return counts

    def loss(self) -> float:
        """Mean loss of a tile, over all ranks."""
        return float(self._loss.compute())


class MosaicScores:
    """Stitches a sweep and counts every pixel of every mosaic once.

    Args:
        data: The loader's dataset.
        outputs: What is counted.
        blend: Weights of overlapping tiles.
        device: Of the module.
        score: Whether truth is read and counted; without it rows are only stitched.
        non_finite: Whether a tile with NaN or infinity in the network's output ends the run, or its pixels are
            marked; scores are never made of marked maps.
        maps: Where whole maps are kept, for metrics of whole mosaics; ``None`` where nothing asks for them.

    Attributes:
        marked: By key of the mosaic, the origins of the tiles that this process has marked so far, in px.
    """

    def __init__(
        self,
        data: EvaluationData,
        outputs: Outputs,
        blend: Blend,
        device: torch.device,
        score: bool = True,
        non_finite: NonFinite = "stop",
        maps: MosaicMaps | None = None,
    ) -> None:
        assert data.sweep is not None
        self.maps = maps
        self.label, self._mosaics, self._score = data.label, data.mosaics, score
        self._sweep, self._non_finite = data.sweep, non_finite
        self._outputs = outputs
        self._stitcher = SweepStitcher(data.sweep, blend, device, len(outputs.classes) or None)
        self.marked: dict[str, list[Shape]] = {}
        self._counts = outputs.counts(len(data.mosaics)).to(device)

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
                self.maps.write(rows.mosaic, rows.start, self._outputs.counted_rows(rows))
        for rows in finished if self._score else ():
            mosaic = self._mosaics[rows.mosaic]
            truth = mosaic.read_mask((rows.start, *(0,) * (len(mosaic.shape) - 1)), rows.probability.shape)
            self._counts.update(rows.mosaic, self._outputs.counted_rows(rows), torch.from_numpy(truth))
        return finished

    def _measure(self, metrics: Sequence[MosaicMetric], keys: Sequence[str], level: int) -> list[Row]:
        """The columns of metrics of whole mosaics; each mosaic is measured by one rank."""
        assert self.maps is not None
        self.maps.flush()
        wait_for_all()
        numbers = {mosaic.key: number for number, mosaic in enumerate(self._mosaics)}

        def measure(key: str) -> Row:
            assert self.maps is not None
            mosaic, found = self._mosaics[numbers[key]], self.maps.read(numbers[key])
            truth = mosaic.read_mask((0,) * len(mosaic.shape), mosaic.shape)
            return self._outputs.measure(metrics, truth, found, level, mosaic.pixel_size_nm)

        return shared_out(measure, keys)

    def _stop_or_mark(self, rows: StitchedRows) -> None:
        key, tile = self._mosaics[rows.mosaic].key, self._sweep.grids[rows.mosaic].tile
        if self._score or self._non_finite == "stop":
            raise UserError(_not_finite(key, rows.failed, tile, self._score))
        # Every tile is named: the store says only which pixels are marked.
        named = ", ".join(map(str, rows.failed))
        warnings.warn(f"{key}: tiles with NaN or infinity are marked; they begin at {named} px", stacklevel=2)
        self.marked.setdefault(key, []).extend(rows.failed)

    def counts(self) -> tuple[list[str], Counts, dict[str, tuple[int, int]]]:
        """Complete mosaics with their counts, and the pixels seen and wanted of those that are not complete."""
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
        """Scores of the complete mosaics; the others are named and not scored.

        Args:
            level: Quantised threshold.
            criterion: How it was chosen.
            metrics: Of whole mosaics; these need ``maps``.
        """
        keys, counts, partial = self.counts()
        for key, (seen, total) in partial.items():
            warnings.warn(
                f"{key}: only {seen} of {total} pixels were predicted (cut short by fast_dev_run or limit_*_batches), "
                "so this mosaic is not scored",
                stacklevel=2,
            )
        table = self._outputs.table(keys, counts, self.label, level, criterion, partial)
        if not metrics:
            return table
        more = self._measure(metrics, keys, level)
        rows = {key: {**table.rows[key], **found} for key, found in zip(keys, more, strict=True)}
        return replace(table, rows=rows)


def _not_finite(key: str, origins: Sequence[Shape], tile: Shape, scoring: bool) -> str:
    named = ", ".join(str(origin) for origin in origins[:5]) + (", …" if len(origins) > 5 else "")
    instead = (
        "scores always stop here; predict with --model.non_finite mark writes the rest of the map"
        if scoring
        else "or pass --model.non_finite mark to write the rest of the map, with these tiles' pixels marked"
    )
    return (
        f"{key}: the network's output is NaN or infinite in {len(origins)} tile(s) of {' × '.join(map(str, tile))} px "
        f"that begin at {named}: look at the image there and check the checkpoint; in 16-bit precision try "
        f"--trainer.precision bf16-mixed or 32; {instead}"
    )


def datasets_of(loaders: Any) -> list[EvaluationData]:
    """The datasets behind Lightning's ``trainer.*_dataloaders``, one or several."""
    return [loader.dataset for loader in (loaders if isinstance(loaders, list | tuple) else [loaders])]


def check_classes(classes: Sequence[str], datasets: Sequence[EvaluationData]) -> None:
    """Refuse masks of other classes than the network's.

    Args:
        classes: Of the network, in the order of its maps; empty for one foreground.
        datasets: With labels, or without any; those that know no mosaics are left alone.

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


class Evaluations:
    """One evaluation for each loader: tiles that are counted, or mosaics that are stitched.

    Args:
        each: In the order of the loaders.
    """

    def __init__(self, *each: TileScores | MosaicScores) -> None:
        self._each = each

    def __getitem__(self, loader: int) -> TileScores | MosaicScores:
        return self._each[loader]

    @property
    def tiles(self) -> TileScores | None:
        """The first one that counts tiles, if there is one."""
        return next((one for one in self._each if isinstance(one, TileScores)), None)

    @property
    def whole(self) -> MosaicScores | None:
        """The first one of whole mosaics, if there is one."""
        return next((one for one in self._each if isinstance(one, MosaicScores)), None)

    @property
    def mosaics(self) -> MosaicScores:
        """The same, of verbs that have no other."""
        assert self.whole is not None
        return self.whole

    @property
    def maps(self) -> MosaicMaps | None:
        """Whole maps, if they are kept; of probabilities or of classes."""
        return None if self.whole is None else self.whole.maps

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


def build_evaluations(
    datasets: Sequence[EvaluationData], outputs: Outputs, blend: Blend, device: torch.device, maps: Path | None
) -> Evaluations:
    """Evaluations of validation or test, before the first batch; every rank calls this.

    Args:
        datasets: The loaders', whose sweep says whether whole mosaics or tiles are scored.
        outputs: What is counted.
        blend: Weights of overlapping tiles.
        device: Of the module.
        maps: Folder for whole maps of mosaics, which the first rank creates; ``None`` where nothing asks for them.

    Raises:
        UserError: if masks are of other classes than the outputs.
    """
    check_classes(outputs.classes, datasets)
    return Evaluations(
        *(
            TileScores(data, outputs, device) if data.sweep is None else _whole(data, outputs, blend, device, maps)
            for data in datasets
        )
    )


def build_prediction(
    data: EvaluationData, outputs: Outputs, blend: Blend, device: torch.device, non_finite: NonFinite
) -> Evaluations:
    """The evaluation of a prediction, which is stitched and not scored.

    Args:
        data: The loader's dataset.
        outputs: What is made of the network's output.
        blend: Weights of overlapping tiles.
        device: Of the module.
        non_finite: Whether tiles with NaN or infinity end the run or are marked.
    """
    return Evaluations(MosaicScores(data, outputs, blend, device, score=False, non_finite=non_finite))


def _whole(
    data: EvaluationData, outputs: Outputs, blend: Blend, device: torch.device, folder: Path | None
) -> MosaicScores:
    maps = None
    if folder is not None:
        maps = MosaicMaps(folder, [mosaic.shape for mosaic in data.mosaics])
        from_first_rank(maps.create)
    return MosaicScores(data, outputs, blend, device, maps=maps)
