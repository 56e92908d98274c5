"""Which planes of a source are cut, and at what resolution."""

from dataclasses import dataclass

from data_modules.images.image import Header, fit_axes, is_isotropic
from data_modules.tile_set import PLANES
from data_modules.tiling.blocks import LIMIT_PX, Shrink, shrink_for
from data_modules.tiling.cutting import Plan


@dataclass(frozen=True)
class Settings:
    """What a run was asked for.

    Attributes:
        grey: Rule to 8 bit, see :meth:`~data_modules.tiling.survey.Survey.to_grey`.
        pixel_size_nm: Of every file about which the table of sources says nothing; ``None`` for what files state.
        random: Number of random tiles a source; ``None`` for all tiles.
        seed: Of random tiles.
        limit_px: Largest source that is not downsampled.
    """

    grey: str = "percentile"
    pixel_size_nm: tuple[float, ...] | None = None
    random: int | None = None
    seed: int = 0
    limit_px: int = LIMIT_PX


@dataclass(frozen=True)
class Planned:
    """A plan and what led to it.

    Attributes:
        plan: Planes and resolution.
        pixel_size_nm: Of the tiles.
        reason: For these planes.
    """

    plan: Plan
    pixel_size_nm: tuple[float, ...] | None
    reason: str


def plan_source(header: Header, stated: tuple[float, ...] | None, settings: Settings) -> Planned:
    """Decide by the pixel size, as Conrad and Narayan (2021) do; random tiles are never downsampled.

    Args:
        header: Of the source.
        stated: Its pixel size in nm as the table of sources has it, before that of the settings and its own.
        settings: Of the run.
    """
    size = stated or settings.pixel_size_nm or header.pixel_size_nm
    if size is not None:
        size = fit_axes(size, 1 if header.frames else header.shape[0])
    isotropic = is_isotropic(size)
    planes = PLANES if isotropic else ("xy",)
    shrink = Shrink() if settings.random is not None else shrink_for(header.shape, isotropic, settings.limit_px)
    plan = Plan(planes, shrink, shrink.shape(header.shape))
    return Planned(plan, shrink.pixel_size(size), _reason(header, size, isotropic))


def _reason(header: Header, size: tuple[float, ...] | None, isotropic: bool) -> str:
    if header.frames:
        return "video: xy only"
    if header.shape[0] == 1:
        return "one section"
    if size is None or len(size) == 2:
        return "pixel size along Z unknown: xy only"
    return "isotropic: three planes" if isotropic else "anisotropic: xy only"
