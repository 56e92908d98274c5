"""Fixtures of the tests of modules."""

from pathlib import Path

import pytest

from tests.support import tiny


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one volume in each split; read only, please."""
    path = tmp_path_factory.mktemp("volumes") / "v.zarr"
    tiny.make_store(path, {"train": ((12, 48, 40),), "val": ((8, 32, 40),), "test": ((10, 40, 36),)})
    return path
