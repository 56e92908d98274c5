"""Stores behind URLs: the same pixels and errors as from a folder, and a message for whatever the network does."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.store import LabelInfo, MosaicStore, MosaicView, read, tensors, verify
from data_modules.store.location import local_folder, locate
from data_modules.store.writer import consolidate, forget_consolidated
from tests.support.servers import serving, serving_bucket
from tests.support.store_checks import flip_byte, foreign_sample, noise, read_all, write_sample

IMAGE, MASK = noise((700, 600)), noise((700, 600), 1, top=2)
REGION = (slice(500, 700), slice(3, 600))


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No connections of other tests, no credentials of the machine, and requests repeated without delay."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "TENSORSTORE_"))]:
        del os.environ[name]
    forget_connections()
    monkeypatch.setattr(tensors, "RETRIES", {**tensors.RETRIES, "initial_delay": "1ms", "max_delay": "4ms"})
    yield
    forget_connections()


def forget_connections() -> None:
    for remembered in (tensors._kvstore, tensors._open, tensors._context):
        remembered.cache_clear()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Below ``tmp_path``, which is what is served."""
    path = tmp_path / "deep" / "s.zarr"
    write_sample(path, IMAGE, {"m": (LabelInfo("binary"), MASK)})
    write_sample(path, IMAGE[:40, :50], key="val/b")
    return path


def same(url: str, path: Path) -> bool:
    """Whether all that can be asked of a store has one answer here and there."""
    there, here = MosaicStore(url), MosaicStore(path)
    assert there.splits == here.splits
    for mine, yours in zip(there.samples(), here.samples(), strict=True):
        assert (mine.key, mine.pixel_size_nm, mine.provenance) == (yours.key, yours.pixel_size_nm, yours.provenance)
        assert [label.info for label in mine.labels.values()] == [label.info for label in yours.labels.values()]
        for one, other in zip((mine.image, *mine.labels.values()), (yours.image, *yours.labels.values()), strict=True):
            np.testing.assert_array_equal(read_all(one), read_all(other))
            part = tuple(slice(side // 3, side) for side in one.shape)
            np.testing.assert_array_equal(read(one, part), read(other, part))
    assert verify(there) == []
    return True


def test_http_after_consolidating(tmp_path: Path, store: Path) -> None:
    assert consolidate(store) == 2
    requests: list[str] = []
    with serving(tmp_path, requests=requests) as address:
        url = f"{address}/deep/s.zarr"
        assert len(MosaicStore(url).samples()) == 2
        assert requests == ["/deep/s.zarr/zarr.json"], "one request for all metadata"
        assert same(url, store)
        assert same(f"{url}/", store)
        view = MosaicView.of(MosaicStore(url).sample("train/a"), "m")
        np.testing.assert_array_equal(view.read_mask((-5, 0), (20, 30))[5:], MASK[:15, :30])


def test_http_without_a_list_says_what_to_run(tmp_path: Path, store: Path) -> None:
    with serving(tmp_path) as address, pytest.raises(UserError, match=r"`emseg data consolidate STORE`"):
        MosaicStore(f"{address}/deep/s.zarr")


def test_foreign_samples_and_hidden_folders(tmp_path: Path) -> None:
    path = tmp_path / "f.zarr"
    foreign_sample(path, IMAGE, "full/image")
    (path / "train" / "f").rename(path / "train" / ".hidden")
    foreign_sample(path, IMAGE, "full/image")
    consolidate(path)
    with serving(tmp_path) as address:
        assert same(f"{address}/f.zarr", path)


def test_outdated_lists_are_never_used_locally(store: Path) -> None:
    consolidate(store)
    write_sample(store, IMAGE[:30, :30], key="train/new")
    assert [sample.key for sample in MosaicStore(store).samples("train")] == ["train/a", "train/new"]
    forget_consolidated(store)
    assert "consolidated_metadata" not in json.loads((store / "zarr.json").read_text())
    forget_consolidated(store)
    assert [sample.key for sample in MosaicStore(store).samples("train")] == ["train/a", "train/new"]


def test_file_urls_are_folders(store: Path) -> None:
    assert MosaicStore(f"file://{store}").path == str(store)
    assert local_folder(f"file://{store}") == store


def test_google(tmp_path: Path, store: Path) -> None:
    requests: list[str] = []
    with serving(tmp_path, google=True, requests=requests) as address:
        os.environ["TENSORSTORE_GCS_HTTP_URL"] = address
        assert same("gs://mosaics/deep/s.zarr", store)
        requests.clear()
        consolidate(store)
        assert len(MosaicStore("gs://mosaics/deep/s.zarr").samples()) == 2
        assert len(requests) == 1, "the list is used where there is one"
        for url in ("gs://mosaics/none.zarr", "gs://nobody/s.zarr"):
            with pytest.raises(UserError, match=f"no store at {url}"):
                MosaicStore(url)


@pytest.fixture
def bucket(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The store in an S3 bucket that only those with credentials may read."""
    with serving_bucket("mosaics", store, monkeypatch) as found:
        yield found


def test_s3(bucket: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert same(bucket, store)
    for url in ("s3://mosaics/none.zarr", "s3://nobody/s.zarr"):
        with pytest.raises(UserError, match=f"no store at {url}"):
            MosaicStore(url)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    tensors._kvstore.cache_clear()
    with pytest.raises(UserError, match=r"s3://mosaics/lab: access is refused.*AWS_ACCESS_KEY_ID"):
        MosaicStore(bucket)


def test_damage_is_what_it_is_in_a_folder(tmp_path: Path, store: Path) -> None:
    consolidate(store)
    shards = sorted(path for path in (store / "train/a/0/c").rglob("*") if path.is_file())
    with serving(tmp_path) as address:
        url = f"{address}/deep/s.zarr"
        sample = MosaicStore(url).sample("train/a")
        flip_byte(shards[0], 600 * 512)
        with pytest.raises(UserError, match=r"image of train/a: stored data is damaged in region \[500:700, 3:600\]"):
            read(sample.image, REGION)
        shards[0].unlink()
        tensors._context.cache_clear()
        tensors._open.cache_clear()
        with pytest.raises(UserError, match=rf"image of train/a: stored data is missing.*{url}/train/a/0"):
            read(sample.image, REGION)
        assert {damage.what for damage in verify(MosaicStore(url))} == {"image of train/a, level 0"}


def test_an_array_replaced_before_opening_is_noticed(tmp_path: Path, store: Path) -> None:
    consolidate(store)
    with serving(tmp_path) as address:
        image = MosaicStore(f"{address}/deep/s.zarr").sample("train/a").image
        write_sample(store, IMAGE[:100], overwrite=True)
        with pytest.raises(UserError, match="was replaced while this run was reading it"):
            read(image, REGION)


@pytest.mark.parametrize(
    ("status", "words"), [(403, "access is refused"), (401, "access is refused"), (503, "cannot be reached")]
)
def test_a_server_that_refuses(tmp_path: Path, status: int, words: str) -> None:
    with serving(tmp_path, status=status) as address, pytest.raises(UserError) as caught:
        MosaicStore(f"{address}/s.zarr")
    assert f"{address}/s.zarr: {words}" in str(caught.value)
    assert str(status) in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["nobody listens", *(pytest.param(each, marks=pytest.mark.slow) for each in ("nobody answers", "no such host"))],
)
def test_a_server_that_is_not_there_is_named(address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if address == "nobody listens":
            silent.close()
        host = "no-such-host.invalid" if address == "no such host" else "127.0.0.1"
        with pytest.raises(UserError, match=rf"http://{host}:{port}/s\.zarr: cannot be reached\. Check the spelling"):
            MosaicStore(f"http://{host}:{port}/s.zarr")


def test_a_port_is_not_taken_for_a_status() -> None:
    for port in range(40300, 40400):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            break
    with pytest.raises(UserError, match=rf"http://127\.0\.0\.1:{port}/s\.zarr: cannot be reached"):
        MosaicStore(f"http://127.0.0.1:{port}/s.zarr")


def test_the_wait_for_a_silent_server_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tensors.ANSWER_S <= 30
    monkeypatch.setattr(tensors, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/s.zarr"
        with pytest.raises(UserError, match="did not answer in time"):
            MosaicStore(url)


def test_a_server_that_goes_away_while_reading(tmp_path: Path, store: Path) -> None:
    consolidate(store)
    with serving(tmp_path) as address:
        image = MosaicStore(f"{address}/deep/s.zarr").sample("train/a").image
    with pytest.raises(UserError, match=r"image of train/a: stored data cannot be read.*Check the network"):
        read(image, REGION)


@pytest.mark.parametrize("url", ["ftp://host/s.zarr", "http://", "s3:///s.zarr", "http://host/s.zarr?token=1"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"stores are folders or URLs|cannot name a store"):
        locate(url)


@pytest.mark.parametrize(
    "url", ["s3://mosaics/s.zarr", "gs://mosaics/s.zarr", "https://host/s.zarr", Path("s3://m/s.zarr")]
)
def test_urls_cannot_be_written(url: str | Path) -> None:
    with pytest.raises(UserError, match="can be read, not written"):
        local_folder(url)
