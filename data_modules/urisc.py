"""The U-RISC mosaics, as `emseg data convert urisc` stores them."""

from typing import Any, Literal

from data_modules.mosaic import Mosaic


class URISC(Mosaic):
    """U-RISC (Shi et al. 2022): rabbit retina, 9,958 × 9,959 px at 2.18 nm, or Track 2 at 1,024 × 1,024 px.

    Args:
        store: Store of one track.
        annotation: Annotation round to learn or score; ``final`` is the ground truth.
        kwargs: Arguments of :class:`data_modules.mosaic.Mosaic`.
    """

    def __init__(self, store: str, annotation: Literal["final", "1st", "2nd"] = "final", **kwargs: Any) -> None:
        label = "membrane" if annotation == "final" else f"membrane_{annotation}"
        super().__init__(store=store, label=label, **kwargs)
