"""What is measured in planes only."""

from data_modules.errors import UserError
from lightning_emseg.metrics.comparison import Comparison


def check_is_plane(comparison: Comparison, metric: str, does: str) -> None:
    """Refuse a volume.

    Args:
        comparison: Of a whole mosaic.
        metric: Name of the metric's class, as a configuration has it.
        does: What the metric does with planes, e.g. ``scores``.

    Raises:
        UserError: if the mosaic has not two axes.
    """
    if comparison.labels.ndim != 2:
        raise UserError(
            f"{metric} {does} planes, not a volume of {comparison.labels.shape} px: "
            f"score its sections one by one, or leave {metric} out of the metrics"
        )
