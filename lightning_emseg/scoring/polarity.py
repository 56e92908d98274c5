"""Whether membranes are bright or dark on one side of a comparison: given, or detected and said."""

from typing import Literal

from data_modules.errors import UserError

Polarity = Literal["bright", "dark"]
GivenPolarity = Literal["auto", "bright", "dark"]
CLEAR = 0.7
"""Share of pixels from which on one brightness is certain to be background; membranes are 5 to 25 % of a section."""


class SidePolarity:
    """Polarity of one side, which all of its images have to share.

    Args:
        side: ``prediction`` or ``truth``, as the option names it.
        given: By the user; ``auto`` to take the majority of every image for background.
    """

    def __init__(self, side: str, given: GivenPolarity) -> None:
        self._side, self._given = side, given
        self._shares: list[float] = []
        self._found: Polarity | None = None
        self._normalised = False

    def of(self, bright_share: float, normalised: bool, what: str) -> Polarity:
        """Polarity of one image.

        Args:
            bright_share: Share of its pixels that are bright, 0–1.
            normalised: Whether foreground is known to be bright.
            what: File or sample, for messages.

        Raises:
            UserError: if neither brightness is a clear majority, two images differ, or the store knows better.
        """
        if normalised:
            return self._known(what)
        if self._given != "auto":
            return self._given
        if 1 - CLEAR < bright_share < CLEAR:
            raise UserError(
                f"{what}: {bright_share:.0%} of the pixels are bright, which does not tell whether membranes are "
                f"bright or dark: pass --{self._side}-polarity bright or dark"
            )
        found: Polarity = "dark" if bright_share >= CLEAR else "bright"
        if self._found not in (None, found):
            raise UserError(
                f"{what}: membranes seem to be {found}, but {self._found} in the images before: save all of them "
                f"alike, or pass --{self._side}-polarity {self._found} if the majority here is membrane"
            )
        self._found = found
        self._shares.append(bright_share)
        return found

    def _known(self, what: str) -> Polarity:
        if self._given == "dark":
            raise UserError(
                f"{what}: stores have bright foreground always: leave out --{self._side}-polarity dark, or convert "
                "the store again with another --foreground if it is inverted"
            )
        self._normalised = True
        return "bright"

    @property
    def polarity(self) -> Polarity | None:
        """What all images so far have; ``None`` before the first."""
        if self._normalised:
            return "bright"
        return self._found if self._given == "auto" else self._given

    @property
    def said(self) -> str:
        """A sentence on what is taken, and why."""
        start = f"{self._side}: membranes are {self.polarity}"
        if self._normalised:
            return f"{start} (as in every store)"
        if self._given != "auto":
            return f"{start} (given)"
        low, high = min(self._shares), max(self._shares)
        span = f"{low:.1%}" if f"{low:.1%}" == f"{high:.1%}" else f"{low:.1%} to {high:.1%}"
        return f"{start} (detected: {span} of the pixels are bright, and the majority is background)"
