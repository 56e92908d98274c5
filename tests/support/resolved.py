"""Configurations as the command line resolves them."""

import contextlib
import functools
import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_emseg import cli


def resolve(*configs: Path) -> dict[str, Any]:
    """What the command line makes of the files, defaults included; parsed once a process."""
    return resolve_words("fit", *(word for config in configs for word in ("--config", str(config))))


def resolve_words(*words: str) -> dict[str, Any]:
    """What the command line would run with, from its words."""
    content: dict[str, Any] = yaml.load(_print_config(words), yaml.CSafeLoader)
    return content


@functools.cache
def _print_config(words: tuple[str, ...]) -> str:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as caught:
        cli.main([*words, "--print_config"])
    assert caught.value.code == 0, err.getvalue()
    return out.getvalue()
