"""Going on with training where a part of the store cannot be read any more."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE, Batch
from data_modules.dataset import PatchDataset
from data_modules.errors import UserError
from data_modules.samplers import Patch
from data_modules.store.errors import ReadError

Pixels = NDArray[np.uint8]


class SkippingPatches(PatchDataset):
    """Patches of a store of which single chunks may be damaged or missing.

    A patch that needs such a chunk keeps its place in the batch, so that all ranks take the same steps, but all its
    pixels are ignored, and it shows a readable patch of that batch, so that statistics over the batch stay those of
    real images. Each is reported by a warning. A store that has gone or was replaced still ends the run.

    Args:
        mosaics: Training mosaics.
        size: Of the patch that is read, in px.
        flat: Whether patches of volumes are single planes and become images.
    """

    def __getitems__(self, patches: Sequence[Patch]) -> Batch:
        """Read one whole batch: image ``uint8 (B, 1, Y, X)`` and mask ``uint8 (B, Y, X)``.

        Raises:
            UserError: if no patch of the batch can be read, or for another reason than damage.
        """
        found = [self._read(patch) for patch in patches]
        readable = [pixels for pixels in found if pixels is not None]
        if not readable:
            keys = sorted({self.mosaics[patch.mosaic].key for patch in patches})
            raise UserError(
                f"no patch of a batch could be read, so that there is nothing to skip to ({', '.join(keys)}): run "
                "`emseg data verify STORE` and convert the samples again"
            )
        stand_in = readable[0][0], np.full_like(readable[0][1], IGNORE)
        images, masks = zip(*(pixels or stand_in for pixels in found), strict=True)
        return self._of_step(images, masks, patches)

    def _read(self, patch: Patch) -> tuple[Pixels, Pixels] | None:
        mosaic = self.mosaics[patch.mosaic]
        try:
            return mosaic.read_image(patch.origin, self.size), mosaic.read_mask(patch.origin, self.size)
        except UserError as error:
            cause = error.__cause__
            if not (isinstance(cause, ReadError) and cause.kind in ("damaged", "missing")):
                raise
            warnings.warn(f"the patch at {patch.origin} of {mosaic.key} is left out: {error}", stacklevel=1)
            return None
