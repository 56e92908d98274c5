"""Where an axis begins and ends, and where its ticks are."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """An axis, or a wish for one.

    Attributes:
        label: With its unit.
        log: Whether it is logarithmic; values up to 0 then have no place.
        limits: First and last value; from the data where ``None``.
    """

    label: str
    log: bool = False
    limits: tuple[float, float] | None = None

    def fit(self, values: Iterable[float]) -> "Scale":
        """The scale that shows all values that have a place on it."""
        shown = [value for value in values if self.has(value)]
        low, high = self.limits or (min(shown, default=1.0), max(shown, default=1.0))
        if self.log:
            low, high = 10 ** math.floor(math.log10(low) + 1e-9), 10 ** math.ceil(math.log10(high) - 1e-9)
            return Scale(low, high if high > low else 10 * low, True, log_ticks(low, max(high, 10 * low)))
        if low == high:
            low, high = low - 0.5, high + 0.5
        ticks = linear_ticks(low, high)
        if self.limits is None:
            step = ticks[1] - ticks[0]
            low, high = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
            ticks = linear_ticks(low, high)
        return Scale(low, high, False, ticks)

    def has(self, value: float) -> bool:
        """Whether a value has a place."""
        return math.isfinite(value) and not (self.log and value <= 0)


@dataclass(frozen=True)
class Scale:
    """A fitted axis.

    Attributes:
        low: First value.
        high: Last value.
        log: Whether it is logarithmic.
        ticks: Rising.
    """

    low: float
    high: float
    log: bool
    ticks: Sequence[float]

    def share(self, value: float) -> float:
        """Place of a value: 0 at the axis' beginning, 1 at its end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within two different bounds, at least two and about ``most``.

    >>> linear_ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last <= first:
        return [low, high]
    # Twelve digits take away what binary fractions add.
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within two bounds, both of them powers of ten."""
    return [10.0**exponent for exponent in range(round(math.log10(low)), round(math.log10(high)) + 1)]


def tick_text(value: float) -> str:
    """A short label.

    >>> tick_text(0.2), tick_text(20000), tick_text(1e-4)
    ('0.2', '20k', '1e-4')
    """
    if value and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.0e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"
