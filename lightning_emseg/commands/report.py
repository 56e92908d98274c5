"""``emseg report``: runs as one page that people look at."""

from pathlib import Path

from data_modules.errors import UserError
from lightning_emseg.results.page.document import album_text, make_page
from lightning_emseg.results.page.sections import quality_tables
from lightning_emseg.results.runs import read_area_study, read_runs


def report(
    runs: list[Path],
    out: Path,
    studies: list[Path] | None = None,
    quality: list[Path] | None = None,
    max_mb: float = 20.0,
) -> str:
    """Make one HTML page of one or more runs: settings, curves, scores, errors, attribution, differences.

    The page needs nothing beside it: it can be sent, kept and opened from disk. What a run does not have is said on it.

    Args:
        runs: Run folders; the others are compared with the first.
        out: File to write, e.g. report.html; one that exists is replaced.
        studies: Folders of `emseg attribute`.
        quality: Folders of `emseg data quality --out`.
        max_mb: Limit of all pictures together in MB; they are reduced until they fit.

    Raises:
        UserError: if a folder is no run, study or result of `emseg data quality`, the pictures do not fit, or the
            file cannot be written.
    """
    found = read_runs(runs)
    html, album, notes = make_page(
        found,
        [read_area_study(path) for path in studies or ()],
        [quality_tables(path) for path in quality or ()],
        max_mb,
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(html, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror}): choose another file") from error
    lines = [*(f"note: {note}" for note in notes), album_text(album)]
    return "\n".join([*lines, f"{out} ({out.stat().st_size / 1e6:.1f} MB)"])
