"""The page as one HTML text without external resources."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lightning_emseg import __version__
from lightning_emseg.core.pictures import IGNORED
from lightning_emseg.evaluation.error_pictures import COLOURS
from lightning_emseg.evaluation.errors import MEANINGS
from lightning_emseg.results.page.pictures import Album, embed
from lightning_emseg.results.page.scores import comparisons, score_section
from lightning_emseg.results.page.settings import settings_section, training_section
from lightning_emseg.results.page.tables import count
from lightning_emseg.results.page.views import attribution_section, error_paths, error_section
from lightning_emseg.results.runs import AreaStudy, RunFolder

_LEGEND = {**{MEANINGS[outcome]: colour for outcome, colour in COLOURS.items()}, "ignored": IGNORED}
_SECTIONS = {
    "settings": "What ran",
    "training": "Training",
    "scores": "Scores",
    "comparing": "Side by side",
    "errors": "Errors",
    "attribution": "Attribution",
    "quality": "Definition",
}


def make_page(
    runs: Sequence[RunFolder], studies: Sequence[AreaStudy], quality: Sequence[Mapping[str, Any]], max_mb: float
) -> tuple[str, Album, list[str]]:
    """Make the page of some runs.

    Args:
        runs: At least one; others are compared with the first.
        studies: Attribution studies.
        quality: Tables of image definition criteria, from :func:`.settings.quality_tables`.
        max_mb: Limit of all pictures together, in 10⁶ bytes.

    Returns:
        The HTML text, the pictures in it, and sentences about what could not be read or shown.

    Raises:
        UserError: if the pictures do not fit into the limit.
    """
    errors, attribution = error_section(runs), attribution_section(runs, studies)
    panels = [path for part in attribution["parts"] for path in part["panels"]]
    album = embed([*error_paths(errors), *panels], max_mb)
    notes = [*(note for run in runs for note in run.notes), *album.notes]
    several = len(runs) > 1
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("page.html").render(
        heading=f"{'Runs' if several else 'Run'} {', '.join(run.name for run in runs)}",
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        album=album.pictures,
        album_text=album_text(album),
        notes=notes,
        sections={key: title for key, title in _SECTIONS.items() if several or key != "comparing"},
        folders={run.name: str(run.folder) for run in runs},
        settings=settings_section(runs),
        training=training_section(runs),
        scores=score_section(runs),
        comparing=comparisons(runs),
        errors=errors,
        colours=_LEGEND,
        attribution=attribution,
        quality=quality,
    )
    return html, album, notes


def album_text(album: Album) -> str:
    """Describe number and size of the pictures in a sentence."""
    if not album.pictures:
        return "It has no pictures."
    side = f"at most {album.side_px:,} px along the longer side"
    told = f"It holds {count(len(album.pictures), 'picture')} of {side}, {album.size_mb:.1f} MB together"
    return told + (", reduced to fit (--max-mb)." if album.is_reduced else ".")
