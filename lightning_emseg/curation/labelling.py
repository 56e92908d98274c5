"""Labelling of tiles by hand: the session with its table, and a web page on this machine alone."""

import csv
import io
import json
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

from data_modules.errors import UserError
from data_modules.tile_set import TileSet, read_kept, read_rows

LABELS = ("informative", "uninformative")
Key = tuple[str, int]


class LabelSession:
    """Tiles that deduplication kept, in a random order, and ``labels.csv`` in the set.

    Every label is on disk when :meth:`record` returns.

    Args:
        folder: Tile set.
        number: Number of tiles to label, those of earlier sessions with this seed included.
        seed: Random seed of the order; a greater ``number`` only lengthens it.

    Raises:
        UserError: if ``number`` is not positive, or the set or the table of labels cannot be read.
    """

    def __init__(self, folder: TileSet, number: int, seed: int) -> None:
        if number < 1 or seed < 0:
            raise UserError(f"--number {number} --seed {seed}: at least 1, and at least 0")
        self.path = folder.path / "labels.csv"
        self._sources = {source.key: source for source in folder.sources()}
        kept = read_kept(list(self._sources.values()), folder.tables("dedup"))
        places = np.array([(at, tile) for at, each in enumerate(kept) for tile in np.flatnonzero(each)], np.int64)
        names = list(self._sources)
        order = np.random.default_rng(seed).permutation(len(places))[:number]
        self.order: list[Key] = [(names[at], tile) for at, tile in places[order].tolist()]
        self.labels = self._read()

    def upcoming(self, number: int = 2) -> list[Key]:
        """The next tiles without a label."""
        found: list[Key] = []
        for key in self.order:
            if key not in self.labels:
                found.append(key)
            if len(found) == number:
                break
        return found

    def state(self) -> Mapping[str, Any]:
        """JSON-ready: how many are ``done`` of ``number``, counts by label, and the tiles that are next."""
        done = [self.labels[key] for key in self.order if key in self.labels]
        return {
            "done": len(done),
            "number": len(self.order),
            "counts": {label: done.count(label) for label in LABELS},
            "upcoming": [{"source": source, "tile": tile} for source, tile in self.upcoming()],
        }

    def record(self, key: Key, label: str) -> None:
        """Note a label, or another one for the same tile.

        Raises:
            UserError: if the set has no such tile, or there is no such label.
        """
        self._check(key)
        if label not in LABELS:
            raise UserError(f"{label!r} is no label: {' or '.join(LABELS)}")
        # To the end, so that it is the one that `undo` takes back.
        self.labels.pop(key, None)
        self.labels[key] = label
        self._write()

    def undo(self) -> None:
        """Take back the last label, also one of an earlier session; nothing where there is none."""
        if self.labels:
            self.labels.popitem()
            self._write()

    def picture(self, key: Key) -> bytes:
        """A tile as PNG.

        Raises:
            UserError: if the set has no such tile, or it is damaged.
        """
        self._check(key)
        written = io.BytesIO()
        Image.fromarray(self._sources[key[0]].tile(key[1])).save(written, "png")
        return written.getvalue()

    def _check(self, key: Key) -> None:
        source = self._sources.get(key[0])
        if source is None or not 0 <= key[1] < len(source):
            raise UserError(f"there is no tile {key[1]} of {key[0]!r}")

    def _read(self) -> dict[Key, str]:
        found: dict[Key, str] = {}
        if not self.path.is_file():
            return found
        sources = list(self._sources.values())
        for line, (source, tile, row) in enumerate(read_rows(self.path, sources, "label"), 2):
            if row["label"] not in LABELS:
                raise UserError(f"{self.path}: line {line} is no label: mend it, or move the file away")
            found[sources[source].key, tile] = row["label"]
        return found

    def _write(self) -> None:
        part: Path = self.path.with_name(f".{self.path.name}.partial")
        with part.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["source", "tile", "label"])
            writer.writerows([*key, label] for key, label in self.labels.items())
        part.replace(self.path)


_PAGE = Path(__file__).with_name("label_page.html")
_OWN_NAMES = ("127.0.0.1", "localhost")
_LONGEST_BODY = 10_000


class LabelServer(ThreadingHTTPServer):
    """Serves one session on 127.0.0.1 until somebody presses *finish*, or ``shutdown`` is called.

    Pages of other sites cannot use it: requests must name this machine, and bodies must be JSON, which browsers send
    across sites only to servers that allow it.

    Args:
        session: Session with tiles and labels.
        port: Port to listen on; 0 for any that is free.

    Raises:
        UserError: if the port is taken.
    """

    daemon_threads = True

    def __init__(self, session: LabelSession, port: int) -> None:
        self.session, self.lock = session, Lock()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise UserError(f"port {port} cannot be used ({error.strerror}): choose another --port, or 0") from error

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: LabelServer

    def do_GET(self) -> None:
        """The page, the state, or a picture."""
        url = urlsplit(self.path)
        if not self._is_ours():
            return
        if url.path == "/":
            self._send(_PAGE.read_bytes(), "text/html; charset=utf-8")
        elif url.path == "/state":
            with self.server.lock:
                self._send(json.dumps(self.server.session.state()).encode(), "application/json")
        elif url.path == "/tile":
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            self._answer(lambda: self._send(self.server.session.picture(_key(query)), "image/png"))
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")

    def do_POST(self) -> None:
        """A label, the wish to take one back, or the end."""
        if not self._is_ours():
            return
        size = int(self.headers.get("Content-Length") or 0)
        if self.headers.get_content_type() != "application/json" or size > _LONGEST_BODY:
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON")
            return
        body = self.rfile.read(size)
        if self.path not in ("/label", "/undo", "/finish"):
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
            return
        self._answer(lambda: self._act(json.loads(body or b"{}")))

    def _act(self, body: Mapping[str, Any]) -> None:
        session = self.server.session
        with self.server.lock:
            if self.path == "/label":
                session.record(_key(body), str(body["label"]))
            elif self.path == "/undo":
                session.undo()
            self._send(json.dumps(session.state()).encode(), "application/json")
        if self.path == "/finish":
            # `shutdown` waits for the loop that waits for this thread.
            Thread(target=self.server.shutdown).start()

    def _answer(self, act: Any) -> None:
        try:
            act()
        except (UserError, KeyError, TypeError, ValueError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))

    def _is_ours(self) -> bool:
        # Another site may have its own name point to this machine, and so pass for the same origin.
        ours = urlsplit(f"//{self.headers.get('Host', '')}").hostname in _OWN_NAMES
        if not ours:
            self._refuse(HTTPStatus.FORBIDDEN, "this page is for this machine alone")
        return ours

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self._send(text.encode(), "text/plain; charset=utf-8", status)

    def _send(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store" if kind != "image/png" else "max-age=3600")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line a request would hide the address."""


def _key(content: Mapping[str, Any]) -> tuple[str, int]:
    return str(content["source"]), int(content["tile"])
