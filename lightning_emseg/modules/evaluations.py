"""What the loaders of one verb are counted or stitched into, from its first batch to the end of its maps."""

from collections.abc import Sequence
from pathlib import Path

import torch

from lightning_emseg.distributed import from_first_rank, wait_for_all
from lightning_emseg.inference.blending import Blend
from lightning_emseg.inference.mosaic_maps import MosaicMaps
from lightning_emseg.modules.base_outputs import Outputs
from lightning_emseg.modules.evaluation import EvaluationData, MosaicScores, NonFinite, TileScores, check_classes


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


def begun(
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


def predicted(
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
