"""Score tables for a terminal."""

from lightning_emseg.metrics.table import ScoreTable


def score_text(table: ScoreTable) -> str:
    """The most important columns, a row a mosaic and the mean ± SE."""
    names = [f"{table.label}_{score}" for score in ("f1", "precision", "recall", "iou")] + ["background_f1"]
    width = max([len("mean ± SE"), *(len(key) for key in table.rows)])
    lines = [" ".join([" " * width, *(f"{name:>20}" for name in names)])]
    lines += [
        " ".join([key.ljust(width), *(f"{row[name]:>20.4f}" for name in names)]) for key, row in table.rows.items()
    ]
    if table.rows:
        summary = table.summary
        lines.append(" ".join(["mean ± SE".ljust(width), *(f"{summary[name]!s:>20}" for name in names)]))
    lines += [f"{key}: not scored, {seen} of {total} pixels seen" for key, (seen, total) in table.partial.items()]
    return "\n".join([*lines, f"threshold {table.threshold:.3f} ({table.criterion})"])
