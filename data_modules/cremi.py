"""The CREMI volumes, as `emseg data convert cremi` stores them."""

from collections.abc import Sequence
from typing import Any

from data_modules.mosaic import Mosaic
from data_modules.patches.sampling import ForegroundPatches, PatchSampling
from data_modules.patches.splits import SectionSplit, Split


class CREMI(Mosaic):
    """Synaptic clefts of CREMI (cremi.org): fruit fly, 125 × 1250 × 1250 voxels a volume, 40 × 4 × 4 nm.

    The defaults are those of CleftNet (Liu and Ji 2021, sec. IV-B), which trains on the first 100 sections of volumes
    A, B and C and validates on the other 25: convert with ``--train A,B,C --test ""``.

    Args:
        store: The store.
        patch_size: Sides of a training patch in voxels (Z, Y, X).
        sampling: Placement of training patches; by default those with fewer than 200 cleft voxels are rejected with
            probability 0.95.
        split: Division of volumes into training and validation; by sections, 100 and 25, by default.
        kwargs: Arguments of :class:`data_modules.mosaic.Mosaic`; the label is ``cleft``.
    """

    def __init__(
        self,
        store: str,
        patch_size: int | Sequence[int] = (8, 256, 256),
        sampling: PatchSampling | None = None,
        split: Split | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            store=store,
            label="cleft",
            patch_size=patch_size if isinstance(patch_size, int) else list(patch_size),
            sampling=sampling or ForegroundPatches(min_pixels=200, reject=0.95),
            split=split or SectionSplit(),
            **kwargs,
        )
