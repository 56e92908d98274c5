"""Data module that makes its own store of synthetic mosaics."""

import shutil
from typing import Any

from data_modules.mosaic import Mosaic
from data_modules.store.location import local_folder
from data_modules.synthetic.mosaic import synthesize


class SyntheticMosaics(Mosaic):
    """Synthetic mosaics, whose store is made first where there is none; for demos and smoke runs.

    Args:
        store: Path of the store; one that exists is used as it is.
        train: Size of each training mosaic, ``<Y>x<X>`` in px.
        val: Size of each validation mosaic.
        test: Size of each test mosaic.
        synthetic_seed: Random seed of the content.
        kwargs: Arguments of :class:`data_modules.mosaic.Mosaic`.
    """

    def __init__(
        self,
        store: str,
        train: list[str],
        val: list[str],
        test: list[str],
        synthetic_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(store=store, **kwargs)
        self._sizes = (train, val, test)
        self._synthetic_seed = synthetic_seed

    def prepare_data(self) -> None:
        """Make the store, on one process; under another name first, so that a broken-off one is not taken for whole."""
        target = local_folder(self.store_path)
        if not target.exists():
            part = target.with_name(f".{target.name}.partial")
            shutil.rmtree(part, ignore_errors=True)  # it may hold mosaics of other sizes
            synthesize(part, *self._sizes, seed=self._synthetic_seed)
            part.replace(target)
