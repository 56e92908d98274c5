"""Mistakes that a user can mend, checks of single settings, and lists in messages."""

from collections.abc import Sequence


class UserError(ValueError):
    """Mistake that a user can mend; the command lines print its message without a traceback.

    The message says what is wrong, which file, sample or key it concerns, and what to do about it.
    """


def check_positive(**values: int | Sequence[int] | None) -> None:
    """Refuse counts and sizes below 1, by name; ``None`` stands for a default."""
    for name, value in values.items():
        if value is not None and min([value] if isinstance(value, int) else value, default=0) < 1:
            raise UserError(f"data.{name} must be at least 1, got {value}")


def check_fractions(**values: float) -> None:
    """Refuse fractions outside ``[0, 1)``, by name."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise UserError(f"data.{name} must be at least 0 and below 1, got {value}")


def shorten(names: Sequence[str], most: int = 8) -> str:
    """Join names for a message, only the first ``most`` of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
