"""The page as one HTML text without external resources."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lightning_emseg import __version__
from lightning_emseg.results.files import QualityTable
from lightning_emseg.results.page.pictures import Album, embed
from lightning_emseg.results.page.scores import beside_papers, comparisons, verb_scores
from lightning_emseg.results.page.settings import defining, training, what_ran
from lightning_emseg.results.page.tables import count
from lightning_emseg.results.page.views import LEGEND, attributing, viewing
from lightning_emseg.results.runs import AreaStudy, RunFolder

_PACKAGE = "lightning_emseg.results.page"
_SECTIONS = {
    "what-ran": "What ran",
    "training": "Training",
    "scores": "Scores",
    "comparing": "Side by side",
    "errors": "Errors",
    "attribution": "Attribution",
    "definition": "Definition",
}


@dataclass(frozen=True)
class ReportPage:
    """A finished page.

    Attributes:
        html: Its text.
        album: Pictures in it.
        notes: What could not be read or shown.
    """

    html: str
    album: Album
    notes: Sequence[str]


def make_page(
    runs: Sequence[RunFolder], studies: Sequence[AreaStudy], definitions: Sequence[QualityTable], max_mb: float
) -> ReportPage:
    """Make the page of some runs.

    Args:
        runs: At least one; others are compared with the first.
        studies: Of attribution.
        definitions: Image definition criteria.
        max_mb: Limit of all pictures together, in 10⁶ bytes.

    Raises:
        UserError: if the pictures do not fit into the limit.
    """
    seen, looked = viewing(runs), attributing(runs, studies)
    album = embed([*seen.paths(), *looked.paths()], max_mb)
    several = len(runs) > 1
    notes = [*(note for run in runs for note in run.notes), *album.notes]
    html = (
        _environment(album)
        .get_template("page.html")
        .render(
            heading=f"{'Runs' if several else 'Run'} {', '.join(run.name for run in runs)}",
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            version=__version__,
            album_text=album_text(album),
            notes=notes,
            several=several,
            sections=[(key, title) for key, title in _SECTIONS.items() if several or key != "comparing"],
            folders={run.name: str(run.folder) for run in runs},
            what_ran=what_ran(runs),
            training=training(runs),
            scores=verb_scores(runs),
            beside=beside_papers(runs),
            comparing=comparisons(runs),
            viewing=seen,
            colours=LEGEND,
            attributing=looked,
            defining=defining(definitions),
        )
    )
    return ReportPage(html, album, notes)


def album_text(album: Album) -> str:
    """Number and size of the pictures, in a sentence."""
    if not album.pictures:
        return "It has no pictures."
    side = f"at most {album.side_px:,} px along the longer side"
    told = f"It holds {count(len(album.pictures), 'picture')} of {side}, {album.size_mb:.1f} MB together"
    return told + (", reduced to fit (--max-mb)." if album.reduced() else ".")


def _environment(album: Album) -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    assets = resources.files(_PACKAGE) / "assets"
    environment.globals.update(
        album=album.pictures,
        style=Markup((assets / "page.css").read_text()),
        script=Markup((assets / "page.js").read_text()),
    )
    return environment
