"""The ISBI 2012 challenge stack, as `emseg data convert isbi2012` stores it."""

from typing import Any

from data_modules.mosaic import Mosaic


class ISBI2012(Mosaic):
    """ISBI 2012 (Arganda-Carreras et al. 2015): Drosophila larva, sections of 512 × 512 px at 4 nm.

    Args:
        store: The store.
        patch_size: Side of a training patch in px; a section is 512.
        kwargs: Arguments of :class:`data_modules.mosaic.Mosaic`.
    """

    def __init__(self, store: str, patch_size: int | list[int] = 512, **kwargs: Any) -> None:
        super().__init__(store=store, patch_size=patch_size, **kwargs)
