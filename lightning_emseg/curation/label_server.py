"""A web page on this machine alone that shows one tile after the other and takes labels."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from data_modules.errors import UserError
from lightning_emseg.curation.label_session import LabelSession

_PAGE = Path(__file__).with_name("label_page.html")
_OWN_NAMES = ("127.0.0.1", "localhost")
_LONGEST_BODY = 10_000


class LabelServer(ThreadingHTTPServer):
    """Serves one session on 127.0.0.1 until somebody presses *finish*, or ``shutdown`` is called.

    Pages of other sites cannot use it: requests must name this machine, and bodies must be JSON, which browsers send
    across sites only to servers that allow it.

    Args:
        session: What is labelled.
        port: To listen on; 0 for any that is free.

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
                self._send_json(self.server.session.state())
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
        doors = {"/label": self._label, "/undo": self._undo, "/finish": self._finish}
        act = doors.get(self.path)
        if act is None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
            return
        self._answer(lambda: act(json.loads(body or b"{}")))

    def _label(self, body: Mapping[str, Any]) -> None:
        with self.server.lock:
            self.server.session.record(_key(body), str(body["label"]))
            self._send_json(self.server.session.state())

    def _undo(self, body: Mapping[str, Any]) -> None:
        with self.server.lock:
            self.server.session.undo()
            self._send_json(self.server.session.state())

    def _finish(self, body: Mapping[str, Any]) -> None:
        self._send_json(self.server.session.state())
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

    def _send_json(self, content: Mapping[str, Any]) -> None:
        self._send(json.dumps(content).encode(), "application/json")

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
