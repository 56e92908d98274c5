"""Small servers for reading over the network: a folder over HTTP, an S3 bucket, and two calls of Google's storage."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from moto.server import ThreadedMotoServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    status: int | None
    requests: list[str]
    stopped = False

    def do_GET(self) -> None:
        if self.stopped:  # connections outlive the server
            self.close_connection = True
            return
        self.requests.append(self.path)
        if self.status is not None:
            self._answer(self.status, b"no")
            return
        self._route()

    def _route(self) -> None:
        self._send_file(self.root / unquote(urlsplit(self.path).path).lstrip("/"))

    def _send_file(self, path: Path) -> None:
        if not path.is_file():
            self._answer(404, b"not found")
            return
        content, spec = path.read_bytes(), self.headers.get("Range")
        if spec is None:
            self._answer(200, content)
            return
        first, _, last = spec.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(content) - int(last))
        stop = int(last) + 1 if first and last else len(content)
        if start >= len(content):
            self._answer(416, b"")
            return
        part = content[start:stop]
        self._answer(206, part, {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(content)}"})

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Google(_Handler):
    """Objects of one bucket, ``bucket``, from a folder."""

    def _route(self) -> None:
        address = urlsplit(self.path)
        prefix = "/storage/v1/b/mosaics/o"
        if not address.path.startswith(prefix):
            self._answer(404, json.dumps({"error": {"code": 404, "message": "no such bucket"}}).encode())
        elif name := unquote(address.path.removeprefix(prefix)).lstrip("/"):
            self._send_file(self.root / name)
        else:
            start = parse_qs(address.query).get("prefix", [""])[0]
            files = sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
            items = [{"name": name, "generation": "1", "size": "1"} for name in files if name.startswith(start)]
            self._answer(200, json.dumps({"items": items}).encode(), {"Content-Type": "application/json"})


@contextmanager
def serving(
    root: Path, google: bool = False, status: int | None = None, requests: list[str] | None = None
) -> Iterator[str]:
    """Serve a folder on a free port of this machine.

    Args:
        root: Folder; with ``google``, the content of the bucket ``mosaics``.
        google: Whether to speak Google's JSON API.
        status: Answer everything with this status instead.
        requests: Filled with the paths that were asked for.
    """
    values = {"root": root, "status": status, "requests": [] if requests is None else requests}
    handler: type[_Handler] = type("Handler", (_Google if google else _Handler,), values)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        handler.stopped = True
        server.shutdown()
        server.server_close()


@contextmanager
def serving_bucket(name: str, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve a folder as ``s3://NAME/lab``, which only those with the credentials of the environment may read."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patch.setenv("AWS_ACCESS_KEY_ID", "someone")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    client = boto3.client("s3", region_name="us-east-1", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket=name)
    for file in filter(Path.is_file, folder.rglob("*")):
        client.put_object(Bucket=name, Key=f"lab/{file.relative_to(folder).as_posix()}", Body=file.read_bytes())
    yield f"s3://{name}/lab"
    server.stop()
