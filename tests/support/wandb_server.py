"""A stand-in for W&B's server: what its clients ask of it in our tests, after the client's own queries."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

HISTORY = "wandb-history.jsonl"
ENTITY = "us"
_ARTIFACT = {"id": "f", "state": "COMMITTED", "artifactSequence": {"latestArtifact": {"id": "f"}}}
Content = dict[str, Any]


@dataclass
class RemoteRun:
    """What the server knows of a run.

    Attributes:
        id: Which the client chose, and by which it finds the run again.
        said: Last value of all that came with its upserts: ``groupName``, ``displayName``, ``sweep``, ``config`` …
        lines: Of its streamed files, by place; a line sent to a place that is taken replaces what was there.
        files: Whole files, by name.
    """

    id: str
    said: Content = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def history(self) -> list[Content]:
        """What was logged, in the order of its places."""
        lines = self.lines.get(HISTORY, {})
        return [json.loads(lines[place]) for place in sorted(lines)]

    def config(self) -> Content:
        """Hyperparameters, without what the client notes for itself."""
        found = json.loads(self.said.get("config") or "{}")
        return {name: entry["value"] for name, entry in found.items() if name != "_wandb"}


class Server(ThreadingHTTPServer):
    """Keeps runs, hands out commands of one sweep, and remembers who asked for what."""

    daemon_threads = True

    def __init__(self, sweep: Content | None = None, commands: list[Content] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sweep, self.commands = sweep or {}, commands or []
        self.runs: dict[str, RemoteRun] = {}
        self.asked: list[tuple[str, Content]] = []
        self.lock = threading.Lock()
        self._answers: Mapping[str, Callable[[Content], Content]] = {
            "SweepWithRuns": self._describe_sweep,
            "CreateAgent": lambda _: {"createAgent": {"agent": {"id": "a1"}}},
            "Heartbeat": self._beat,
            "ServerFeaturesQuery": lambda _: {"serverInfo": {"features": []}},
            "RunResumeStatus": self._describe_run,
            "UpsertBucket": self._upsert,
            "CreateRunFiles": self._make_files,
            # As if the server had its files already: tables come as files of the run, too.
            "ArtifactType": lambda _: {"project": {"artifact": None}},
            "CreateArtifact": lambda _: {"createArtifact": {"artifact": _ARTIFACT}},
        }

    @property
    def begun(self) -> list[str]:
        """Ids in the order in which clients, each once, asked whether there is such a run to go on with."""
        return [variables["name"] for name, variables in self.asked if name == "RunResumeStatus"]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, query: str, variables: Content) -> Content:
        """The data that a GraphQL query asks for, as far as the client reads it."""
        found = re.search(r"\b(?:query|mutation)\s+(\w+)", query)
        name = found[1] if found else query
        with self.lock:
            self.asked.append((name, variables))
            return self._answers.get(name, self._describe_viewer)(variables)

    def _describe_viewer(self, _: Content) -> Content:
        return {
            "viewer": {"id": "u", "username": "u", "entity": ENTITY, "email": "", "flags": "{}", "teams": {"edges": []}}
        }

    def _describe_sweep(self, _: Content) -> Content:
        sweep = {"id": "s", "name": "s1", "config": yaml.safe_dump(self.sweep), "runs": {"edges": []}}
        return {"project": {"sweep": sweep}}

    def _beat(self, _: Content) -> Content:
        commands = [self.commands.pop(0)] if self.commands else []
        return {"agentHeartbeat": {"agent": {"id": "a1"}, "commands": json.dumps(commands)}}

    def _describe_run(self, variables: Content) -> Content:
        run = self.runs.get(variables["name"])
        model = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": ENTITY}}
        return {"model": {**model, "bucket": run and self._bucket(run)}}

    def _bucket(self, run: RemoteRun) -> Content:
        config = run.said.get("config") or "{}"
        counts = {name: len(lines) for name, lines in run.lines.items()}
        last = {name: [lines[max(lines)]] for name, lines in run.lines.items() if lines}
        return {
            "id": f"storage-{run.id}",
            "name": run.id,
            "displayName": run.said.get("displayName") or "brave-cloud-1",
            "description": None,
            "config": config,
            "sweepName": run.said.get("sweep"),
            "summaryMetrics": last.get("wandb-summary.json", ["{}"])[0],
            "tags": [],
            "notes": None,
            # A run that the client has begun has its telemetry, `t`, in here; without it nothing is resumed.
            "wandbConfig": json.dumps(json.loads(config).get("_wandb", {}).get("value", {})),
            "logLineCount": counts.get("output.log", 0),
            "historyLineCount": counts.get(HISTORY, 0),
            "eventsLineCount": counts.get("wandb-events.jsonl", 0),
            "historyTail": json.dumps(last.get(HISTORY, [])),
            "eventsTail": json.dumps(last.get("wandb-events.jsonl", [])),
            "project": {"id": "p", "name": "lightning-emseg", "entity": {"id": "e", "name": ENTITY}},
        }

    def _upsert(self, variables: Content) -> Content:
        key = variables.get("name") or str(variables["id"]).removeprefix("storage-")
        inserted = key not in self.runs
        run = self.runs.setdefault(key, RemoteRun(key))
        run.said |= {name: value for name, value in variables.items() if value is not None}
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": inserted}}

    def _make_files(self, variables: Content) -> Content:
        files = [
            {"name": name, "uploadUrl": f"{self.url}/put/{variables['run']}/{name}"} for name in variables["files"]
        ]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}

    def stream(self, run: str, content: Content) -> None:
        """Keep lines that a run sends while it goes."""
        with self.lock:
            for name, part in (content.get("files") or {}).items():
                kept = self.runs[run].lines.setdefault(name, {})
                kept.update(enumerate(part["content"], part["offset"]))

    def keep(self, run: str, name: str, content: bytes) -> None:
        """Keep a whole file of a run."""
        with self.lock:
            self.runs[run].files[name] = content


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body, parts = self._body(), self.path.strip("/").split("/")
        if parts[-1] == "graphql":
            asked = json.loads(body)
            self._reply({"data": self.server.answer(asked["query"], asked.get("variables") or {})})
        elif parts[-1] == "file_stream":
            self.server.stream(parts[-2], json.loads(body))
            self._reply({})
        else:
            self._reply({})  # the client's telemetry

    def do_PUT(self) -> None:
        _, _, run, name = self.path.split("/", 3)
        self.server.keep(run, name, self._body())
        self._reply({})

    def do_GET(self) -> None:
        self._reply({})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def _reply(self, content: Content) -> None:
        written = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Answer until the block ends."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
