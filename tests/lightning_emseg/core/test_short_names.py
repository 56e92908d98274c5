"""The tables of short names: every entry is a class of its kind, and no class is missing."""

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest
import pytorch_lightning as pl
from torch import nn

import data_modules
from data_modules import short_names as of_data
from data_modules.patches.sampling import PatchSampling
from data_modules.patches.splits import Split
from lightning_emseg.attribution.method import AttributionMethod
from lightning_emseg.core import short_names as of_training
from lightning_emseg.metrics.classes import MosaicMetric
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.volume_baselines import VolumeBaseline

KINDS: dict[str, type] = {
    "modules": pl.LightningModule,
    "losses": nn.Module,
    "metrics": MosaicMetric,
    "callbacks": pl.Callback,
    "attribution": AttributionMethod,
    "data": pl.LightningDataModule,
    "sampling": PatchSampling,
    "splits": Split,
    "augmentation": object,
}
PACKAGES = {
    **{kind: f"lightning_emseg.{kind}" for kind in of_training.SHORT_NAMES},
    **dict.fromkeys(of_data.SHORT_NAMES, "data_modules"),
}
TABLES = {**of_training.SHORT_NAMES, **of_data.SHORT_NAMES}
ENTRIES = [(kind, name, module) for kind, table in TABLES.items() for name, module in table.items()]


@pytest.mark.parametrize(("kind", "name", "module"), ENTRIES, ids=[name for _, name, _ in ENTRIES])
def test_entry_is_class_of_its_kind(kind: str, name: str, module: str) -> None:
    found = getattr(import_module(module), name)
    assert issubclass(found, KINDS[kind])
    assert not inspect.isabstract(found)
    assert (found.__name__, found.__module__) == (name, module)
    assert getattr(import_module(PACKAGES[kind]), name) is found
    assert name in dir(import_module(PACKAGES[kind]))


def test_name_means_one_class() -> None:
    names = [name for _, name, _ in ENTRIES]
    assert len(set(names)) == len(names)


def classes_of(package: str, kind: type) -> Iterator[str]:
    """Names of concrete public classes of a kind that a package's modules define."""
    for info in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
        module = import_module(info.name)
        for name, value in vars(module).items():
            own = inspect.isclass(value) and value.__module__ == info.name and not name.startswith("_")
            if own and issubclass(value, kind) and not inspect.isabstract(value):
                yield name


@pytest.mark.parametrize("kind", ["modules", "losses", "metrics", "callbacks", "attribution"])
def test_no_class_is_missing(kind: str) -> None:
    bases = {
        SegmentationMixin.__name__,
        VolumeBaseline.__name__,
        "GreyInput",
        "GreyNetwork",
        "PixelOutput",
        "MosaicMetric",
    }
    assert set(classes_of(f"lightning_emseg.{kind}", KINDS[kind])) - bases == set(of_training.SHORT_NAMES[kind])


def test_no_class_of_data_is_missing() -> None:
    for kind in ("data", "splits"):
        assert set(classes_of("data_modules", KINDS[kind])) - {"TileModule"} == set(of_data.SHORT_NAMES[kind])


@pytest.mark.parametrize("kind", PACKAGES)
def test_star_import_brings_every_class(kind: str) -> None:
    found: dict[str, object] = {}
    exec(f"from {PACKAGES[kind]} import *", found)
    assert set(TABLES[kind]) < set(found)


def test_other_names_are_no_attributes() -> None:
    with pytest.raises(AttributeError, match="module 'data_modules' has no attribute 'Urisc'"):
        data_modules.Urisc  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Overlay'"):
        exec("from lightning_emseg.callbacks import Overlay")
