from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from data_modules.convert.benchmarks.all_mitochondria import convert_all_mitochondria
from data_modules.convert.benchmarks.casser import convert_kasthuri, convert_lucchi
from data_modules.convert.benchmarks.organelles import convert_guay, convert_perez, convert_urocell
from data_modules.errors import UserError
from data_modules.store import MosaicStore, verify
from tests.support.benchmark_trees import casser, guay, perez, urocell
from tests.support.convert_checks import pixel_size, provenance, stored

BENCHMARKS = ("guay", "perez", "urocell", "lucchi", "kasthuri")
pytestmark = pytest.mark.filterwarnings("ignore:.*were published:UserWarning")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    root = tmp_path_factory.mktemp("benchmarks")
    guay(root / "guay")
    perez(root / "perez", "mitochondria")
    urocell(root / "urocell")
    casser(root / "lucchi")
    casser(root / "kasthuri", outside=True)
    convert_guay(root / "guay", root / "guay.zarr")
    convert_perez(root / "perez", root / "perez.zarr", "mitochondria", 7.8)
    convert_urocell(root / "urocell", root / "urocell.zarr")
    convert_lucchi(root / "lucchi", root / "lucchi.zarr")
    convert_kasthuri(root / "kasthuri", root / "kasthuri.zarr")
    return {name: root / f"{name}.zarr" for name in BENCHMARKS}


def gather(stores: Mapping[str, Path], out: Path) -> list[str]:
    first, second, third, fourth, fifth = (stores[name] for name in BENCHMARKS)
    return convert_all_mitochondria(first, second, third, fourth, fifth, out)


def test_mitochondria_of_five_benchmarks(stores: Mapping[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "all.zarr"
    keys = gather(stores, out)
    assert len(keys) == 3 + 4 + 5 + 2 + 2
    assert {"train/lucchi", "val/guay", "test/perez-0012", "test/urocell-fib1-0-0-0"} <= set(keys)
    assert all(list(sample.labels) == ["mitochondrion"] for sample in MosaicStore(out).samples())
    origins = {
        "test/guay": ("guay", "test/guay", "organelle", 2),
        "train/urocell-fib1-3-2-1": ("urocell", "train/fib1-3-2-1", "organelle", 2),
        "test/perez-0003": ("perez", "test/0003", "mitochondrion", 1),
        "test/kasthuri": ("kasthuri", "test/kasthuri", "mitochondrion", 1),
    }
    for key, (name, origin, label, value) in origins.items():
        store = stores[name]
        original = stored(store, origin, label)
        np.testing.assert_array_equal(stored(out, key), stored(store, origin))
        expected = np.where(original == 255, 255, original == value)
        np.testing.assert_array_equal(stored(out, key, "mitochondrion"), expected)
        assert pixel_size(out, key) == pixel_size(store, origin)
        assert provenance(out, key)["sample"] == origin
        assert provenance(out, key)["converted_from"] == provenance(store, origin)
    assert (stored(out, "test/guay", "mitochondrion") == 255).any()
    assert not verify(MosaicStore(out))
    with pytest.raises(UserError, match="already has test/guay"):
        gather(stores, out)


def test_a_store_without_mitochondria_is_named(stores: Mapping[str, Path], tmp_path: Path) -> None:
    perez(tmp_path, "nuclei")
    convert_perez(tmp_path, tmp_path / "nuclei.zarr", "nuclei", 7.8)
    with pytest.raises(UserError, match=r"nuclei\.zarr: sample .* has no label or class 'mitochondrion'.*nucleus"):
        gather({**stores, "perez": tmp_path / "nuclei.zarr"}, tmp_path / "all.zarr")
    with pytest.raises(UserError, match=r"nowhere\.zarr"):
        gather({**stores, "guay": tmp_path / "nowhere.zarr"}, tmp_path / "all.zarr")
