"""``emseg curate label``: somebody says which tiles are informative."""

from contextlib import suppress
from pathlib import Path

from data_modules.tile_set import TileSet
from lightning_emseg.curation.label_server import LabelServer
from lightning_emseg.curation.label_session import LabelSession


def label(tiles: Path, number: int = 2000, seed: int = 0, port: int = 0) -> str:
    """Show tiles in a browser, one after the other, and keep what is said of them in ``labels.csv`` in the set.

    Open the address that is printed (it is of this machine alone; on a cluster, forward its port with ``ssh -L``) and
    press i for informative, u for uninformative, z to undo. Every label is saved at once, and the next call goes on
    where this one ended. Tiles come in a random order from those that `emseg curate dedup` kept.

    Args:
        tiles: The tile set.
        number: Of tiles to label, those labelled before included; Conrad and Narayan (2021) labelled 14,000.
        seed: Of the order.
        port: Of the page; any that is free by default.

    Raises:
        UserError: if there is no tile set, the labels in it are damaged, or the port is taken.
    """
    session = LabelSession(TileSet(tiles), number, seed)
    with LabelServer(session, port) as server:
        print(f"label at {server.address} (finish there, or with Ctrl-C)", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever(poll_interval=0.1)
    counts = session.state()["counts"]
    said = ", ".join(f"{value:,} {name}" for name, value in counts.items())
    return f"{sum(counts.values()):,} of {len(session.order):,} tiles labelled ({said}): {session.path}"
