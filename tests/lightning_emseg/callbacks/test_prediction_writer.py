"""Prediction stores: nothing half-made is seen, interrupted runs continue to the same bytes, nothing is mixed up."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl

from data_modules.batch import Batch
from data_modules.errors import UserError
from data_modules.store import MosaicStore, read, verify
from lightning_emseg import __version__
from lightning_emseg.callbacks import PredictionWriter
from tests.support import tiny

TALL = 6500
"""Four rows of shards, the last of them short."""


@pytest.fixture(scope="module")
def tall_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tall") / "s.zarr"
    tiny.make_store(path, {"test": ((TALL, 70), (90, 61))})
    return path


@pytest.fixture(scope="module")
def whole(tall_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, bytes]:
    """Files of an uninterrupted prediction."""
    out = tmp_path_factory.mktemp("whole") / "p.zarr"
    predict(tall_store, out)
    return contents(out)


class StopAt(pl.Callback):
    """Fails before a batch, and counts batches."""

    def __init__(self, batch: int | None = None) -> None:
        self.batch, self.seen = batch, 0

    def on_predict_batch_start(self, trainer: Any, module: Any, batch: Batch, *_: Any) -> None:
        if self.seen == self.batch:
            raise RuntimeError("interrupted")
        self.seen += len(batch["image"]) > 0


def predict(
    store: Path, out: Path, stop: StopAt | None = None, writer: dict[str, Any] | None = None, **model: Any
) -> None:
    # An overlap that does not divide the tile, so that rows of tiles and of shards never coincide.
    data = tiny.data_of(store, overlap=0.3, eval_batch_size=3)
    callbacks = [PredictionWriter(str(out), **(writer or {})), *([stop] if stop else [])]
    trainer = tiny.quiet_trainer(out.parent, callbacks=callbacks)
    trainer.predict(tiny.GreyModule(**{"blend": "gaussian", **model}), data, return_predictions=False)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_predict_needs_out(tiny_store: Path, tmp_path: Path) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[PredictionWriter()])
    with pytest.raises(UserError, match=r"--writer\.out"):
        trainer.predict(tiny.GreyModule(), tiny.data_of(tiny_store), return_predictions=False)


def test_predict_needs_a_data_module(tiny_store: Path, tmp_path: Path) -> None:
    data = tiny.data_of(tiny_store)
    data.setup("predict")
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[PredictionWriter(str(tmp_path / "p.zarr"))])
    with pytest.raises(UserError, match="datamodule="):
        trainer.predict(tiny.GreyModule(), dataloaders=data.predict_dataloader(), return_predictions=False)


def test_the_store_holds_the_map_and_its_mask(tall_store: Path, tmp_path: Path) -> None:
    predict(tall_store, tmp_path / "p.zarr")
    store = MosaicStore(tmp_path / "p.zarr")
    assert verify(store) == []
    for name, shape in (("m0", (TALL, 70)), ("m1", (90, 61))):
        sample = store.sample(f"test/{name}")
        image, _ = tiny.content(shape, int(name[1]))
        everything = [slice(0, side) for side in shape]
        expected = tiny.known_map(image)
        np.testing.assert_array_equal(read(sample.image, everything), expected)
        np.testing.assert_array_equal(read(sample.label("membrane"), everything), expected >= 128)


@pytest.mark.parametrize("batch", [0, 1, 100, 143, 144, 145])
def test_an_interrupted_run_continues_to_the_same_bytes(
    tall_store: Path, whole: dict[Path, bytes], tmp_path: Path, batch: int
) -> None:
    out = tmp_path / "p.zarr"
    with pytest.raises(RuntimeError, match="interrupted"):
        predict(tall_store, out, StopAt(batch))
    assert not list((out / "test").glob("[!.]*/zarr.json")), "no half sample is seen"
    rest = StopAt()
    predict(tall_store, out, rest)
    assert contents(out) == whole
    everything = StopAt()
    predict(tall_store, tmp_path / "again.zarr", everything)
    # At most one row of shards, that which was not full, is computed twice.
    assert rest.seen <= everything.seen - batch + 2048 // (64 * 0.7) + 2


def test_run_continues_twice_and_over_damage(tall_store: Path, whole: dict[Path, bytes], tmp_path: Path) -> None:
    out = tmp_path / "p.zarr"
    for batch in (60, 50):
        with pytest.raises(RuntimeError, match="interrupted"):
            predict(tall_store, out, StopAt(batch))
    # A write that a kill has cut short, and a shard that lost its end in a power failure.
    (out / "test" / ".m0.partial" / "0" / "c" / "3.0123.partial").write_bytes(b"half")
    shard = out / "test" / ".m0.partial" / "0" / "c" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-5])
    predict(tall_store, out)
    assert contents(out) == whole


def test_a_finished_prediction_is_left_as_it_is(
    tall_store: Path, whole: dict[Path, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, again = tmp_path / "p.zarr", StopAt()
    predict(tall_store, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("c/**/*")}
    with caplog.at_level("INFO"):
        predict(tall_store, out, again)
    assert again.seen == 0
    assert "nothing is left to do" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in out.rglob("c/**/*")} == before
    assert contents(out) == whole
    predict(tall_store, out, again, {"overwrite": True})
    assert again.seen > 0
    assert contents(out) == whole


def test_prediction_continues_under_another_class_path(tiny_store: Path, tmp_path: Path) -> None:
    """The command line records the path by which a configuration names the class."""
    seen = []
    for path in ("tests.support.GreyModule", "tests.support.tiny.GreyModule"):
        module, stop = tiny.GreyModule(blend="gaussian"), StopAt()
        module.hparams["_class_path"] = path
        trainer = tiny.quiet_trainer(tmp_path, callbacks=[PredictionWriter(str(tmp_path / "p.zarr")), stop])
        trainer.predict(module, tiny.data_of(tiny_store), return_predictions=False)
        seen.append(stop.seen)
    assert seen[0] > 0
    assert seen[1] == 0


def test_prediction_killed_while_put_in_place_is_finished(
    tall_store: Path, whole: dict[Path, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rename = tmp_path / "p.zarr", Path.rename
    moved: list[Path] = []

    def once(self: Path, target: Path) -> Path:
        if moved:
            raise KeyboardInterrupt
        moved.append(self)
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", once)
        with pytest.raises((SystemExit, KeyboardInterrupt)):
            predict(tall_store, out)
    assert sorted(path.name for path in (out / "test").iterdir()) == [".m1.partial", "m0", "zarr.json"]
    rest = StopAt()
    predict(tall_store, out, rest)
    assert rest.seen == 0
    assert contents(out) == whole


def _other_weights(store: Path, out: Path, writer: dict[str, Any]) -> None:
    module = tiny.GreyModule(blend="gaussian")
    module.network.slope.data.fill_(-3.0)  # type: ignore[operator]
    trainer = tiny.quiet_trainer(out.parent, callbacks=[PredictionWriter(str(out), **writer)])
    trainer.predict(module, tiny.data_of(store, overlap=0.3, eval_batch_size=3), return_predictions=False)


@pytest.mark.parametrize("finished", [True, False])
def test_store_of_another_configuration_is_refused(tall_store: Path, tmp_path: Path, finished: bool) -> None:
    out = tmp_path / "p.zarr"
    if finished:
        predict(tall_store, out)
    else:
        with pytest.raises(RuntimeError, match="interrupted"):
            predict(tall_store, out, StopAt(120))
    before = contents(out)
    with pytest.raises(UserError, match=r"test/m0 is .*'gaussian' there, 'cosine' here.*--writer\.overwrite true"):
        predict(tall_store, out, blend="cosine")
    with pytest.raises(UserError, match=r"weights_sha256: .* there"):
        _other_weights(tall_store, out, {})
    assert contents(out) == before
    _other_weights(tall_store, out, {"overwrite": True})
    image, _ = tiny.content((90, 61), 1)
    got = read(MosaicStore(out).sample("test/m1").image, [slice(0, 90), slice(0, 61)])
    np.testing.assert_allclose(got, 255 / (1 + np.exp(3 * (image - 127.5) / 127.5)), atol=0.51)
    assert [path.name for path in (out / "test").iterdir() if path.name.startswith(".")] == []


def test_unfinished_predictions_of_older_versions_are_refused(tall_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.zarr"
    with pytest.raises(RuntimeError, match="interrupted"):
        predict(tall_store, out, StopAt(120))
    recorded = out / "test" / ".m0.partial" / "zarr.json"
    text, now = recorded.read_text(), f'"lightning-emseg": "{__version__}"'
    assert text.count(now) == 1
    recorded.write_text(text.replace(now, '"lightning-emseg": "0.1.0"'))
    before = contents(out)
    versions = rf"versions\.lightning-emseg: '0\.1\.0' there, '{re.escape(__version__)}' here"
    with pytest.raises(UserError, match=rf"test/m0 is an unfinished .*\({versions}\): choose another --writer\.out"):
        predict(tall_store, out)
    assert contents(out) == before


def test_a_run_cut_short_leaves_no_half_sample(tiny_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.zarr"
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[PredictionWriter(str(out))], limit_predict_batches=2)
    with pytest.warns(UserWarning, match=r"cut short.*nothing is in"):
        trainer.predict(tiny.GreyModule(), tiny.data_of(tiny_store), return_predictions=False)
    assert [path.name for path in (out / "test").iterdir()] == ["zarr.json"]


def test_a_broken_run_leaves_no_half_sample(tiny_store: Path, tmp_path: Path) -> None:
    module = tiny.GreyModule()
    module.network.slope.data.fill_(float("nan"))  # type: ignore[operator]
    out = tmp_path / "p.zarr"
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[PredictionWriter(str(out))])
    with pytest.raises(UserError, match=r"test/m0"):
        trainer.predict(module, tiny.data_of(tiny_store), return_predictions=False)
    assert [path.name for path in (out / "test").iterdir()] == ["zarr.json"]


def test_pixels_without_a_finite_value_are_marked(tiny_store: Path, tmp_path: Path) -> None:
    module = tiny.GreyModule(non_finite="mark")
    module.network.slope.data.fill_(float("nan"))  # type: ignore[operator]
    out = tmp_path / "p.zarr"
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[PredictionWriter(str(out))])
    with pytest.warns(UserWarning, match=r"test/m1"):
        trainer.predict(module, tiny.data_of(tiny_store), return_predictions=False)
    sample = MosaicStore(out).sample("test/m1")
    assert not read(sample.image, [slice(0, 50), slice(0, 40)]).any()
    assert (read(sample.label("membrane"), [slice(0, 50), slice(0, 40)]) == 255).all()
    assert sample.label("membrane").info.counts == {255: 2000}  # type: ignore[union-attr]


def test_prediction_records_where_it_comes_from(tiny_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.zarr"
    module = tiny.GreyModule(blend="cosine")
    tiny.quiet_trainer(tmp_path, callbacks=[PredictionWriter(str(out))]).predict(
        module, tiny.data_of(tiny_store, overlap=0.25), return_predictions=False
    )
    sample = MosaicStore(out).sample("test/m0")
    assert sample.provenance["architecture"] == "GreyModule"
    assert (sample.provenance["blend"], sample.provenance["overlap"]) == ("cosine", 0.25)
    assert sample.provenance["versions"]["torch"]
    assert sample.pixel_size_nm == (4, 4)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=False).returncode
    ):
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk_is_named_and_run_continues_later(
    tall_store: Path, whole: dict[Path, bytes], small_disk: Path
) -> None:
    out = small_disk / "p.zarr"
    (small_disk / "other").write_bytes(bytes(600_000))
    with pytest.raises(UserError, match=r"no room left while writing .*p\.zarr.*run the command again"):
        predict(tall_store, out)
    (small_disk / "other").unlink()
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    rest = StopAt()
    predict(tall_store, out, rest)
    assert contents(out) == whole
