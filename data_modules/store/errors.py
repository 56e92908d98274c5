"""Why stored pixels could not be read, whichever reader has met it."""

from typing import Literal

Kind = Literal["missing", "damaged", "unreadable", "replaced"]


class ReadError(Exception):
    """Something stored that cannot be had.

    Args:
        kind: ``missing`` when it is not there, ``damaged`` when it is not what was written, ``replaced`` when it is
            another array than the one that was opened, ``unreadable`` for everything else, such as permissions or a
            network.
        cause: What was met, with the file or URL.
    """

    def __init__(self, kind: Kind, cause: str) -> None:
        super().__init__(cause)
        self.kind: Kind = kind
