"""Record of what the project computes, and its comparison with what a later commit computes.

In the root of a tree, or with its path as ``--root``; a record takes some minutes of CPU time:

    python tests/bench/guard.py make  RECORD
    python tests/bench/guard.py check RECORD [--out FOLDER]

``make`` trains tiny networks on synthetic stores, evaluates them and keeps all files in the new folder RECORD.
``check`` repeats every stage from the record's stores, checkpoints and predictions. It prints whether the results are
equal to the bit, how much they differ, and which differences are intended. Exit status 1 if one is neither intended nor
within a tolerance.

``guard.yaml`` holds the commands, and all else that a later commit may have to change. This script only runs command
lines and reads files. It imports nothing of the project, so it outlives what it guards.
"""

import argparse
import csv
import fnmatch
import hashlib
import json
import math
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
import zarr
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]
Settings = Mapping[str, Any]

SETTINGS = Path(__file__).with_suffix(".yaml")
_GIVEN = "given"
_NOT_COMPARED = {_GIVEN, "configs", "logs"}
_FAILED = "failed.json"
"""Exit status or error of each command line that failed."""
_SHOWN = 30
"""Differences of a group that are printed."""

# Commands in turn in one process, because starting one costs more than most of them.
_DRIVER = """
import contextlib, importlib, json, sys
commands, statuses = json.loads(sys.stdin.read()), {}
for line, name, entry, words, target in commands:
    module, function = entry.split(":")
    sys.argv = [name, *words]
    with contextlib.ExitStack() as stack:
        if target:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(target, "w"))))
        try:
            getattr(importlib.import_module(module), function)()
            statuses[line] = "0"
        except SystemExit as ended:
            statuses[line] = str(ended.code or 0)
        except BaseException as error:
            statuses[line] = f"{type(error).__name__}: {error}"
    print(f"{statuses[line]}: {line}", file=sys.stderr, flush=True)
with open("logs/statuses.json", "w") as file:
    json.dump(statuses, file)
"""


@dataclass
class Content:
    """Comparable content of a record.

    Attributes:
        items: Values by item and key: numbers, texts, truth values, ``None`` and arrays.
        class_paths: Full paths of classes by their names, which alone are compared.
    """

    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    class_paths: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


@dataclass(frozen=True)
class Difference:
    """One value that is not as recorded.

    Attributes:
        item: File or array.
        key: Value in it; empty for the whole item.
        what: How it differs.
        allowed: Why it may; empty where it may not.
    """

    item: str
    key: str
    what: str
    allowed: str = ""


# Running the stages


def record(folder: Path, root: Path, settings: Settings, earlier: Path | None = None) -> None:
    """Run all stages in ``folder``.

    Args:
        folder: Empty or absent.
        root: Tree whose commands run.
        settings: Content of ``guard.yaml``.
        earlier: Record that gives stores, checkpoints and predictions; new ones are made by default.
    """
    check_origin(root)
    for name in ("configs", "logs", "resolved", "tables"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, config in settings["configs"].items():
        (folder / "configs" / f"{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    if earlier is None:
        raw = Path(__file__).with_name("guard_data.py")
        subprocess.run([sys.executable, str(raw), str(folder / _GIVEN / "raw")], check=True)
    else:
        shutil.copytree(earlier / _GIVEN, folder / _GIVEN)
    copy_plain(root / "experiments", folder / "resolved", settings["experiments"]["plain"])
    experiments = {"name": "experiments", "commands": experiment_commands(root, settings["experiments"])}
    statuses: dict[str, str] = {}
    for stage in [*settings["stages"], experiments]:
        print(f"stage: {stage['name']}", file=sys.stderr, flush=True)
        copy_all(folder, stage.get("copies", {}))
        statuses |= run_stage(folder, root, stage)
        if earlier is None:
            copy_all(folder, stage.get(_GIVEN, {}))
    (folder / "environment-of-record.json").write_text(json.dumps(environment(root), indent=2))
    failed = {line: status for line, status in statuses.items() if status != "0"}
    (folder / "logs" / _FAILED).write_text(json.dumps(failed, indent=2))


def check_origin(root: Path) -> None:
    """Refuse to measure another copy of the packages than that in ``root``."""
    for package in ("data_modules", "lightning_emseg"):
        words = [sys.executable, "-c", f"import {package}; print({package}.__file__)"]
        found = subprocess.run(words, cwd="/", env=surroundings(root), capture_output=True, text=True, check=True)
        if not Path(found.stdout.strip()).is_relative_to(root):
            sys.exit(f"error: {package} comes from {found.stdout.strip()}, not from {root}: check --root")


def surroundings(root: Path) -> dict[str, str]:
    """Environment of the commands: packages of ``root``, one thread, no GPU, no settings of the project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EMSEG_", "WANDB_"))}
    fixed = {"PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return kept | fixed


def run_stage(folder: Path, root: Path, stage: Settings) -> dict[str, str]:
    """Run the commands of a stage: ``script`` as a user would start it, the others in one process.

    Returns:
        Exit status or error of each command line.
    """
    scripts: dict[str, str] = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]
    statuses: dict[str, str] = {}
    with (folder / "logs" / f"{stage['name']}.txt").open("w") as log:
        if "script" in stage:
            name, *words = shlex.split(stage["script"])
            start = [sys.executable, "-m", "lightning_emseg"] if name == "lightning" else [console_script(name)]
            done = subprocess.run(
                [*start, *words], cwd=folder, env=surroundings(root), stdout=log, stderr=log, check=False
            )
            statuses[stage["script"]] = str(done.returncode)
        commands = []
        for line in stage["commands"]:
            command, _, target = line.partition(" > ")
            name, *words = shlex.split(command)
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            commands.append((line, name, scripts[name], words, target))
        start = [sys.executable, "-c", _DRIVER]
        given = json.dumps(commands)
        subprocess.run(
            start, cwd=folder, env=surroundings(root), input=given, text=True, stdout=log, stderr=log, check=True
        )
    in_turn: dict[str, str] = json.loads((folder / "logs" / "statuses.json").read_text())
    return statuses | in_turn


def console_script(name: str) -> str:
    """Path of an installed command."""
    return str(Path(sys.executable).with_name(name))


def experiment_commands(root: Path, settings: Settings) -> list[str]:
    """Commands that print the resolved values of every shipped YAML, alone or on top of its base."""
    top, commands = root / "experiments", []
    for path in sorted(top.rglob("*.yaml")):
        relative = path.relative_to(top)
        if is_plain(relative, settings["plain"]):
            continue
        overrides = settings["overrides"]
        bases = overrides.get(relative.as_posix()) or overrides.get(relative.parent.as_posix()) or []
        files = " ".join(f"--config {top / each}" for each in (*bases, relative.as_posix()))
        commands.append(f"{settings['resolve']} {files} > resolved/{relative.as_posix()}")
    return commands


def is_plain(relative: Path, names: Sequence[str]) -> bool:
    """Whether a YAML file is no configuration of a run."""
    return bool({relative.parent.name, relative.name} & set(names))


def copy_plain(experiments: Path, target: Path, names: Sequence[str]) -> None:
    """Copy the YAML files that are compared as they are written."""
    for path in sorted(experiments.rglob("*.yaml")):
        if is_plain(path.relative_to(experiments), names):
            copied = target / path.relative_to(experiments)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)


def copy_all(folder: Path, copies: Mapping[str, str]) -> None:
    """Copy files and folders within ``folder``, from value to key; what a failed command has not made is left out."""
    for target, source in copies.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        if (folder / source).is_dir():
            shutil.copytree(folder / source, folder / target)
        elif (folder / source).exists():
            shutil.copyfile(folder / source, folder / target)


def environment(root: Path) -> dict[str, str]:
    """Tree and commit that ran, and the processor and versions that results depend on."""
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    cpu = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", cpu.read_text()) if cpu.exists() else []
    return {
        "root": str(root),
        "commit": subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip(),
        "processor": models[0] if models else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        **{name: metadata.version(name) for name in ("torch", "numpy", "scipy", "scikit-image", "kornia")},
    }


# Reading a record


def read_record(folder: Path, root: Path, settings: Settings) -> Content:
    """Read all compared files without volatile values; class paths, and those of the tree, get one form."""
    content = Content()
    places = [(str(path), name) for path, name in ((folder.resolve(), "HERE"), (root.resolve(), "ROOT"))]
    for item, entries in read_items(folder, folder):
        if any(re.search(pattern, item) for pattern in settings["volatile_files"]):
            continue
        kept = content.items[rename(item, settings)] = {}
        for key, value in entries:
            volatile = any(re.search(pattern, key) for pattern in settings["volatile_keys"])
            if isinstance(value, str):
                volatile |= any(re.search(pattern, value) for pattern in settings["volatile_texts"])
                value = plain_text(value, places, content)
            if not volatile:
                kept[rename(key, settings)] = value
    return content


def rename(name: str, settings: Settings) -> str:
    """Name as the record has it."""
    for pattern, replacement in settings["renamed"].items():
        name = re.sub(pattern, replacement, name)
    return name


def plain_text(text: str, places: Sequence[tuple[str, str]], content: Content) -> str:
    """Text without absolute paths; a class path becomes the name of its class, because modules may move."""
    for place, name in places:
        text = text.replace(place, name)
    if re.fullmatch(r"(lightning_emseg|data_modules)(\.\w+)*\.[A-Z]\w*", text):
        name = text.rpartition(".")[2]
        content.class_paths[name].add(text)
        return name
    return text


def read_items(folder: Path, top: Path) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """Walk through a folder; a Zarr array is one item, any other file too."""
    for path in sorted(folder.iterdir()):
        item = path.relative_to(top).as_posix()
        if path.parent == top and path.name in _NOT_COMPARED:
            continue
        if not path.is_dir():
            yield item, list(read_file(path))
        elif (path / "zarr.json").exists() and json.loads((path / "zarr.json").read_text())["node_type"] == "array":
            yield item, list(read_array(path))
        else:
            yield from read_items(path, top)


def read_array(path: Path) -> Iterator[tuple[str, Any]]:
    """Metadata, pixels and stored bytes of a Zarr array."""
    yield from flatten(json.loads((path / "zarr.json").read_text()), "metadata")
    yield "pixels", np.asarray(zarr.open_array(path, mode="r")[...])
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name != "zarr.json":
            yield f"bytes/{file.relative_to(path).as_posix()}", sha256(file)


def read_file(path: Path) -> Iterator[tuple[str, Any]]:
    """Values of a table, a document, an image or a checkpoint; the hash of any other file."""
    match path.suffix:
        case ".json":
            yield from flatten(json.loads(path.read_text()))
        case ".yaml":
            yield from flatten(yaml.safe_load(path.read_text()))
        case ".csv":
            with path.open(newline="") as file:
                columns, *rows = csv.reader(file)
            yield "columns", ", ".join(columns)
            for number, row in enumerate(rows, 1):
                for name, text in zip(columns, row, strict=True):
                    yield f"{number}/{name}", number_in(text)
        case ".ckpt" | ".pth":
            yield from flatten(torch.load(path, map_location="cpu", weights_only=True))
        case ".png" | ".jpg":
            yield "pixels", np.asarray(Image.open(path))
        case ".npz":
            with np.load(path) as arrays:
                yield from sorted(arrays.items())
        case ".txt":
            yield from ((str(number), line) for number, line in enumerate(path.read_text().splitlines()))
        case _:
            yield "bytes", sha256(path)


def number_in(text: str) -> Any:
    """The number that a cell of a table holds, or the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings and sequences, with their paths."""
    children: Any = ()
    if isinstance(value, Mapping):
        children = value.items()
    elif isinstance(value, list | tuple):
        children = enumerate(value)
    elif isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, Mapping | list | tuple) and len(value):
        for key, child in children:
            yield from flatten(child, f"{prefix}/{key}" if prefix else str(key))
    else:
        yield prefix, value if isinstance(value, np.ndarray | str | int | float | None) else repr(value)


def sha256(path: Path) -> str:
    """Hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Comparing two records


def compare(old: Content, new: Content, settings: Settings, same_machine: bool = True) -> list[Difference]:
    """All values that are not as recorded.

    Args:
        old: The record.
        new: What the present code makes.
        settings: Content of ``guard.yaml``.
        same_machine: Whether every bit must agree; otherwise the tolerances hold.
    """
    found = []
    for item in sorted(old.items.keys() | new.items.keys()):
        if item not in new.items or item not in old.items:
            found.append(Difference(item, "", "missing" if item in old.items else "not in the record"))
            continue
        before, after = old.items[item], new.items[item]
        for key in [*before, *(key for key in after if key not in before)]:
            if key not in after or key not in before:
                found.append(Difference(item, key, "missing" if key in before else "not in the record"))
                continue
            what, size = deviation(before[key], after[key])
            # Pixels within a tolerance are stored as other bytes.
            if what and (same_machine or not key.startswith("bytes/")):
                allowed = "" if same_machine else tolerated(item, key, size, settings["tolerances"])
                found.append(Difference(item, key, what, allowed))
    return [intended(difference, settings["intended"]) for difference in found]


def deviation(old: Any, new: Any) -> tuple[str, tuple[float, float]]:
    """How two values differ, and their largest difference, absolute and relative to the largest value.

    >>> deviation(2.0, 2.5)[0]
    '2.0, now 2.5'
    >>> deviation(float("nan"), float("nan"))
    ('', (0.0, 0.0))
    """
    unlike = f"{shorten(old)}, now {shorten(new)}", (math.inf, math.inf)
    if isinstance(old, bool | str | None) or isinstance(new, bool | str | None):
        return ("", (0.0, 0.0)) if type(old) is type(new) and old == new else unlike
    before, after = np.asarray(old), np.asarray(new)
    if before.shape != after.shape or (before.ndim and before.dtype != after.dtype):
        return unlike
    if before.dtype.kind not in "biuf":
        return ("", (0.0, 0.0)) if np.array_equal(before, after) else unlike
    differ = (before != after) & ~(np.isnan(before.astype(float)) & np.isnan(after.astype(float)))
    if not differ.any():
        return "", (0.0, 0.0)
    apart = np.abs(before.astype(float) - after.astype(float))[differ].max()
    size = float(apart), float(apart / max(np.abs(before.astype(float)).max(), 1e-300))
    if not before.ndim:
        return unlike[0], size
    first = tuple(int(axis[0]) for axis in np.nonzero(differ))
    values = f"{before[first]}, now {after[first]}"
    return f"{differ.sum()} of {differ.size} values, by up to {apart:.3g}; first {values} at {first}", size


def shorten(value: Any) -> str:
    """A value for a message."""
    text = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) and value.ndim else str(value)
    return text if len(text) < 90 else f"{text[:80]}…"


def tolerated(item: str, key: str, size: tuple[float, float], tolerances: Sequence[Settings]) -> str:
    """The reason of the first tolerance that fits, where the difference is within it."""
    rule = next((rule for rule in tolerances if fits(rule, item, key)), {})
    near = size[0] <= rule.get("absolute", 0) or size[1] <= rule.get("relative", 0)
    return f"within tolerance: {rule['why']}" if near else ""


def fits(rule: Settings, item: str, key: str) -> bool:
    """Whether a tolerance or an intended difference is about a value."""
    return fnmatch.fnmatchcase(item, rule["item"]) and fnmatch.fnmatchcase(key, rule.get("key", "*"))


def intended(difference: Difference, rules: Sequence[Settings]) -> Difference:
    """The difference with the reason of the first rule that it matches."""
    for rule in rules:
        if fits(rule, difference.item, difference.key):
            return Difference(difference.item, difference.key, difference.what, f"intended: {rule['why']}")
    return difference


def report(old: Content, new: Content, differences: Sequence[Difference]) -> str:
    """A row for every group of items, then the differences of each."""
    found: dict[str, list[Difference]] = defaultdict(list)
    for difference in differences:
        found[group_of(difference.item)].append(difference)
    lines = ["| group | items | values | result |", "| --- | --- | --- | --- |"]
    for group in sorted({group_of(item) for item in [*old.items, *new.items]} | found.keys()):
        items = [entries for item, entries in old.items.items() if group_of(item) == group]
        counts = {"differ": 0, "allowed": 0}
        for difference in found[group]:
            counts["allowed" if difference.allowed else "differ"] += 1
        result = ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "equal"
        lines.append(f"| {group} | {len(items)} | {sum(map(len, items))} | {result} |")
    for group in sorted(found):
        for each in sorted(found[group], key=lambda difference: bool(difference.allowed))[:_SHOWN]:
            place = f"{each.item} [{each.key}]" if each.key else each.item
            lines.append(f"- {place}: {each.what}{f' ({each.allowed})' if each.allowed else ''}")
        if len(found[group]) > _SHOWN:
            lines.append(f"- … and {len(found[group]) - _SHOWN} more in {group}")
    for name, paths in sorted(new.class_paths.items()):
        if name in old.class_paths and paths != old.class_paths[name]:
            lines.append(f"- moved: {', '.join(sorted(old.class_paths[name]))}, now {', '.join(sorted(paths))}")
    return "\n".join(lines)


def group_of(item: str) -> str:
    """The folders of an item that a row of the report stands for."""
    return "/".join(item.split("/")[:2]) if item.count("/") > 1 else item.split("/")[0]


# Command line


def check(folder: Path, out: Path, root: Path, settings: Settings) -> int:
    """Repeat a record in ``out``, unless that is done, and print the comparison; returns the exit status."""
    if not out.exists():
        record(out, root, settings, folder)
    failed = json.loads((out / "logs" / _FAILED).read_text())
    old_place, new_place = (json.loads((each / "environment-of-record.json").read_text()) for each in (folder, out))
    changed = [name for name in new_place if name not in ("root", "commit") and new_place[name] != old_place[name]]
    old, new = read_record(folder, Path(old_place["root"]), settings), read_record(out, root, settings)
    differences = compare(old, new, settings, same_machine=not changed)
    differences += [Difference("logs", line, f"failed: {status}") for line, status in failed.items()]
    print(report(old, new, differences))
    rule = f"tolerances, because of another {', '.join(changed)}" if changed else "equality to the bit"
    left = sum(not each.allowed for each in differences)
    print(f"{old_place['commit']} against {new_place['commit']}, by {rule}: {left or 'no'} unexpected differences")
    return int(left > 0)


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["make", "check"])
    parser.add_argument("record", type=Path, help="folder of the record")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="tree to run; the current folder by default")
    parser.add_argument("--out", type=Path, help="keeps what check makes; compared as it is where it exists")
    given = parser.parse_args()
    settings = yaml.safe_load(SETTINGS.read_text())
    if given.action == "make":
        if given.record.exists():
            parser.error(f"{given.record} exists: choose another folder")
        record(given.record, given.root.resolve(), settings)
        failed = json.loads((given.record / "logs" / _FAILED).read_text())
        print("\n".join(f"failed ({status}): {line}" for line, status in failed.items()) or "every command succeeded")
        return int(bool(failed))
    with tempfile.TemporaryDirectory() as temporary:
        return check(given.record, given.out or Path(temporary) / "check", given.root.resolve(), settings)


if __name__ == "__main__":
    sys.exit(main())
