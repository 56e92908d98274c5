"""Readers survive every way of starting a process, and say so where they cannot."""

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from torch.utils.data import DataLoader, Dataset
from zarr.codecs import BloscCodec, Crc32cCodec

from data_modules.errors import UserError
from data_modules.store import ArrayRef, LabelInfo, MosaicStore, MosaicView, read
from tests.support.store_checks import Pixels, foreign_sample, noise, write_sample

FORK = "fork"
# A new process imports torch, which takes seconds; to the readers, both kinds of new process are alike.
FORKSERVER, SPAWN = (pytest.param(method, marks=pytest.mark.slow) for method in ("forkserver", "spawn"))
PIXELS = noise((700, 600))
MASK = noise((700, 600), 1, top=2)
PATIENCE_S = 60


class Patches(Dataset[Pixels]):
    """Each item is a corner of image and mask."""

    def __init__(self, image: ArrayRef, mask: ArrayRef) -> None:
        self.image, self.mask = image, mask

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Pixels:
        region = (slice(index, index + 520), slice(index, index + 520))
        return np.stack([read(self.image, region), read(self.mask, region)])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("processes") / "s"
    write_sample(path, PIXELS, {"m": (LabelInfo("binary"), MASK)})
    foreign_sample(path, PIXELS)
    return path


@pytest.mark.parametrize("method", [FORK, FORKSERVER, SPAWN])
def test_workers_read_after_their_parent_has_read(store: Path, method: str) -> None:
    sample = MosaicStore(store).sample("train/a")
    dataset = Patches(sample.image, sample.label("m"))
    dataset[0]
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=method, timeout=PATIENCE_S)
    items = [np.asarray(item) for item in loader]
    assert len(items) == 6
    for index, item in enumerate(items):
        inside = (slice(index, index + 520), slice(index, index + 520))
        np.testing.assert_array_equal(item, np.stack([PIXELS[inside], MASK[inside]]))


def _read_all(image: ArrayRef, results: "multiprocessing.SimpleQueue[object]") -> None:
    try:
        results.put(int(read(image, (slice(0, 700), slice(0, 600))).sum()))
    except UserError as error:
        results.put(str(error))


def _in_a_process(method: str, function: Callable[..., None], image: ArrayRef) -> object:
    context = multiprocessing.get_context(method)
    results = context.SimpleQueue()
    process = context.Process(target=function, args=(image, results), daemon=True)  # type: ignore[attr-defined]
    process.start()
    process.join(PATIENCE_S)
    if process.is_alive():
        process.kill()
        return "hangs"
    return results.get()


@pytest.mark.parametrize("method", [FORK, "forkserver", SPAWN])
def test_tensorstore_after_a_fork_is_an_error(store: Path, method: str) -> None:
    image = MosaicStore(store).sample("train/f").image
    read(image, (slice(0, 5), slice(0, 5)))  # now TensorStore's threads run
    answer = _in_a_process(method, _read_all, image)
    if method == "fork":
        assert "do not survive a fork" in str(answer)
        assert "forkserver" in str(answer)
    else:
        assert answer == int(PIXELS.sum())


@pytest.mark.parametrize("method", [FORK, FORKSERVER, SPAWN])
def test_decompressor_threads_survive_forks(tmp_path: Path, method: str) -> None:
    """Blosc has threads of its own, in the main thread of the process that has imported it."""
    ids = noise((1024, 1024), top=2**40, dtype=np.uint64)
    array = zarr.create_array(
        tmp_path / "a", shape=ids.shape, dtype=ids.dtype, chunks=ids.shape, shards=ids.shape,
        compressors=[BloscCodec(cname="lz4", shuffle="shuffle", typesize=8), Crc32cCodec()],
    )  # fmt: skip
    array[...] = ids
    ref = ArrayRef(str(tmp_path / "a"), "label 'cells' of train/a", ids.shape, "uint64", complete=True)
    np.testing.assert_array_equal(read(ref, (slice(0, 1024), slice(0, 1024))), ids)
    assert _in_a_process(method, _read_all, ref) == int(ids[:700, :600].sum())


def test_our_stores_are_read_without_tensorstore(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorstore", None)  # importing it fails from now on
    view = MosaicView.of(MosaicStore(store).sample("train/a"), "m")
    np.testing.assert_array_equal(view.read_image((0, 0), (600, 600)), PIXELS[:600, :600])
    np.testing.assert_array_equal(view.read_mask((0, 0), (600, 600)), MASK[:600, :600])


@pytest.mark.slow
def test_our_stores_never_start_tensorstore(store: Path) -> None:
    """A process that has read nothing but our own stores has not even imported it, so any fork is safe."""
    program = (
        "import sys\n"
        "from data_modules.store import MosaicStore, MosaicView\n"
        f"view = MosaicView.of(MosaicStore({str(store)!r}).sample('train/a'), 'm')\n"
        "view.read_image((0, 0), (600, 600)), view.read_mask((0, 0), (600, 600))\n"
        "sys.exit('tensorstore' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
