"""Studies that tests of several commands look at."""

from pathlib import Path

import pytest

from lightning_emseg.commands import main
from tests.support import linear_network
from tests.support.undrawn import undrawn


@pytest.fixture(scope="session")
def image_studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of two studies of one network, at different pixel sizes and with different baselines; read only."""
    folder = tmp_path_factory.mktemp("studies")
    store = linear_network.make_store(folder / "s.zarr", {"a": (70, 90)})
    common = ["--checkpoint", str(linear_network.checkpoint(folder)), "--store", str(store), "--split", "test"]
    common += ["--points", "16", "--window", "32", "--windows", "6", "--method.steps", "2", "--check", "0"]
    with undrawn():
        main(["attribute", *common, "--out", str(folder / "one"), "--method.baseline", "zero"])
        main(["attribute", *common, "--out", str(folder / "two"), "--resize", "64"])
    return folder
