"""The version has one source, whatever the installation's metadata say."""

import re
import tomllib

from lightning_emseg import __version__
from lightning_emseg.callbacks.run_folder import environment
from tests.support import ROOT


def test_packaging_takes_the_version_from_the_package() -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in content["project"]
    assert content["project"]["dynamic"] == ["version"]
    assert content["tool"]["setuptools"]["dynamic"] == {"version": {"attr": "lightning_emseg.__version__"}}


def test_the_changelog_begins_with_the_version() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "docs" / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == __version__
    assert versions[1] == "0.1.0"


def test_a_run_records_the_version_of_its_code() -> None:
    assert environment()["packages"]["lightning-emseg"] == __version__
