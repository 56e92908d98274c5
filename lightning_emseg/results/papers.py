"""F1 values printed in the papers, for the data sets that runs are compared on."""

from dataclasses import dataclass

_JOURNAL = "U-RISC, Frontiers 2022"


@dataclass(frozen=True)
class PaperValue:
    """A printed value.

    Attributes:
        data_set: Class of the data set in ``data_modules``.
        who: Network, participant or annotation round.
        module: Class of the network in ``lightning_emseg.modules``; empty where there is none.
        f1: Mean over images, as printed.
        spread: What stands behind the ± sign, as printed; empty where nothing does.
        subset: Which images.
        source: Where it is printed.
    """

    data_set: str
    who: str
    module: str
    f1: str
    spread: str
    subset: str
    source: str


_TRACK = "Track 1 or 2: the text has both"
_SPLIT = "20 train, 10 test"

PAPER_VALUES = (
    PaperValue("ISBI2012", "LinkNet", "LinkNet", "0.97246", "0.08", _SPLIT, _JOURNAL),
    PaperValue("ISBI2012", "CASENet", "CASENet", "0.97132", "0.08", _SPLIT, _JOURNAL),
    PaperValue("ISBI2012", "U-Net", "UNet", "0.97010", "0.09", _SPLIT, _JOURNAL),
    PaperValue("URISC", "LinkNet", "LinkNet", "0.60701", "0.063", _TRACK, _JOURNAL),
    PaperValue("URISC", "CASENet", "CASENet", "0.60065", "0.053", _TRACK, _JOURNAL),
    PaperValue("URISC", "U-Net", "UNet", "0.57123", "0.049", _TRACK, _JOURNAL),
    PaperValue("URISC", "U-Net-transfer", "UNetTransfer", "0.6659", "", _TRACK, _JOURNAL),
    PaperValue("URISC", "best competitor", "", "0.60704", "0.043", "Track 1", _JOURNAL),
    PaperValue("URISC", "best competitor", "", "0.56932", "0.053", "Track 2", _JOURNAL),
    PaperValue("URISC", "human, 1st round", "", "0.92128", "0.012", "Track 1", _JOURNAL),
    PaperValue("URISC", "human, 2nd round", "", "0.99334", "0.008", "Track 1", _JOURNAL),
    PaperValue("URISC", "human, 1st round", "", "0.96915", "0.014", "Track 2", _JOURNAL),
    PaperValue("URISC", "human, 2nd round", "", "0.99891", "0.003", "Track 2", _JOURNAL),
)

CAVEATS = {
    "ISBI2012": (
        "The paper does not say which class its F1 is of. Its values on ISBI 2012 fit the background (cell interior) "
        "better than the membrane, so both of ours are given; its split of the 30 sections is not published."
    ),
    "URISC": (
        "The printed comparison is of Track 2 by the paper's Methods and of Track 1 by its Results. The official "
        "script takes a grey truth as it is; ours is binary."
    ),
}
SPREAD = (
    "What the paper prints behind ± is called a standard error, but is too large for one; ours is the standard error "
    "over mosaics."
)


def paper_values(data_set: str) -> list[PaperValue]:
    """Values for a class of ``data_modules``, e.g. ``ISBI2012``; none for others."""
    return [value for value in PAPER_VALUES if value.data_set == data_set]
