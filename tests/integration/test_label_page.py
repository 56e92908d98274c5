"""Labelling tiles by keys and clicks in a real browser, and by requests that a browser would not send."""

import csv
import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_modules.errors import UserError
from data_modules.tile_set import TileSet
from lightning_emseg.curation.labelling import LabelServer, LabelSession
from tests.support import chromium
from tests.support.tile_sets import make_tile_set


@pytest.fixture
def tiles(tmp_path: Path) -> TileSet:
    make_tile_set(tmp_path / "set", {"one #1 näher": 3, "two": 3})
    return TileSet(tmp_path / "set")


@pytest.fixture
def server(tiles: TileSet) -> Iterator[LabelServer]:
    with LabelServer(LabelSession(tiles, 5, 0), 0) as served:
        thread = Thread(target=served.serve_forever, args=(0.02,))
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def written(tiles: TileSet) -> list[tuple[str, int, str]]:
    with (tiles.path / "labels.csv").open() as file:
        return [(row["source"], int(row["tile"]), row["label"]) for row in csv.DictReader(file)]


def ask(server: LabelServer, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    connection = HTTPConnection(*server.server_address[:2], timeout=10)  # type: ignore[arg-type]
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    content = None if body is None else json.dumps(body)
    connection.request("GET" if body is None else "POST", path, content, sent)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_an_order_is_lengthened_and_sessions_go_on(tiles: TileSet) -> None:
    first = LabelSession(tiles, 3, 7)
    assert LabelSession(tiles, 5, 7).order[:3] == first.order
    assert len({*LabelSession(tiles, 100, 7).order}) == 6
    assert LabelSession(tiles, 6, 8).order != LabelSession(tiles, 6, 7).order
    first.record(first.order[0], "informative")
    first.record(first.order[1], "uninformative")
    second = LabelSession(tiles, 3, 7)
    assert second.upcoming() == first.order[2:]
    assert second.state()["counts"] == {"informative": 1, "uninformative": 1}
    second.undo()
    assert written(tiles) == [(*first.order[0], "informative")]
    assert second.upcoming(1) == [first.order[1]]


def test_duplicates_are_not_shown(tiles: TileSet) -> None:
    rows = [f"{each.key},{tile},{int(tile == 1)},why" for each in tiles.sources() for tile in range(3)]
    (tiles.path / "dedup.csv").write_text("\n".join(["source,tile,kept,reason", *rows]) + "\n")
    assert sorted(LabelSession(tiles, 100, 0).order) == [("one #1 näher", 1), ("two", 1)]


def test_damaged_labels_are_named(tiles: TileSet) -> None:
    (tiles.path / "labels.csv").write_text("source,tile,label\ntwo,0,maybe\n")
    with pytest.raises(UserError, match=r"labels.csv: line 2 is no label"):
        LabelSession(tiles, 3, 0)
    (tiles.path / "labels.csv").write_text("source,tile,label\ntwo,99,informative\n")
    with pytest.raises(UserError, match="line 2 is of tile 99 of 'two'"):
        LabelSession(tiles, 3, 0)


def test_other_sites_and_nonsense_are_refused(server: LabelServer, tiles: TileSet) -> None:
    good = {"source": "two", "tile": 0, "label": "informative"}
    assert ask(server, "/label", good, Host="evil.example")[0] == 403
    assert ask(server, "/label", good, Content_Type="text/plain")[0] == 415
    assert ask(server, "/label", {**good, "tile": 77})[0] == 400
    assert ask(server, "/label", {**good, "label": "nice"})[0] == 400
    assert ask(server, "/label", [1])[0] == 400
    assert ask(server, "/tile?source=two&tile=-1")[0] == 400
    assert ask(server, "/../etc/passwd")[0] == 404
    assert not (tiles.path / "labels.csv").exists()
    # A body may have 10,000 bytes; what is not asked for is passed over.
    longest = {**good, "note": ""}
    longest["note"] = "x" * (10_000 - len(json.dumps(longest)))
    assert ask(server, "/label", longest)[0] == 200
    # Through `ssh -L` the port is another one.
    assert ask(server, "/label", good, Host="localhost:1234")[0] == 200
    status, picture = ask(server, "/tile?source=two&tile=2")
    assert status == 200
    assert np.array_equal(np.asarray(Image.open(BytesIO(picture))), tiles.sources()[1].tile(2))


@pytest.mark.skipif(chromium.EXECUTABLE is None, reason="Chromium is not installed")
def test_keys_label_and_undo_until_all_is_done(server: LabelServer, tiles: TileSet, tmp_path: Path) -> None:
    assert chromium.EXECUTABLE is not None
    order = server.session.order
    with chromium.browser(chromium.EXECUTABLE, tmp_path / "profile") as browser:
        browser.call("Page.navigate", url=server.address)

        def until(expression: str) -> None:
            end = time.monotonic() + 30
            while not browser.evaluate(f"Boolean({expression})"):
                assert time.monotonic() < end, expression
                time.sleep(0.02)

        def press(key: str, done: int) -> None:
            for kind in ("keyDown", "keyUp"):
                browser.call("Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else "")
            until(f"!busy && document.querySelector('#count').textContent.startsWith('{done} of 5')")

        until("document.querySelector('#tile')?.naturalWidth > 0")
        assert browser.evaluate("[shown.source, shown.tile]") == list(order[0])
        press("i", 1)
        press("u", 2)
        press("z", 1)
        press("x", 1)
        press("i", 2)
        browser.click("#uninformative")
        until("document.querySelector('#count').textContent.startsWith('3 of 5')")
        press("U", 4)
        press("i", 5)
        labels = ["informative", "informative", "uninformative", "uninformative", "informative"]
        assert written(tiles) == [(*key, label) for key, label in zip(order, labels, strict=True)]
        assert browser.evaluate("document.querySelector('#tile').hidden && shown === null") is True
        assert browser.complaints == []
        assert all(request.startswith(server.address) for request in browser.requests)
        browser.click("#finish")
        until("document.querySelector('#where').textContent.includes('saved')")
