"""``make bench``: all benchmarks, one JSON and one Markdown table.

``python -m tests.bench.run --only reader,training --out runs/bench`` runs some. Each has a fresh process, so that
none inherits another's threads, caches or peak memory.
"""

import argparse
import json
import math
import multiprocessing
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module, metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from tests.bench.harness import Row, cores

CASES = (
    *("reader", "shapes", "training", "stitching", "endtoend", "conversion", "memory", "scaling", "attribution"),
    *("panel", "ranks", "near_pairs", "cremi_score", "feature_augmentor", "startup"),
)
# Modules of cases that have another name.
MODULES = {"ranks": "rank_scaling"}
VERSIONS = ("torch", "pytorch-lightning", "tensorstore", "zarr", "numpy", "monai", "captum", "scikit-image")
HEAD = (
    "| case | what | median | against | ratio | target | met | note |",
    "|---|---|---|---|---|---|---|---|",
)


def main() -> None:
    """Run the cases, print the table as it grows, and write it after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CASES), help="cases, separated by commas; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of the tables")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := set(chosen) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}: there are {', '.join(CASES)}")
    rows: list[Row] = []
    seconds: dict[str, float] = {}
    failed = []
    arguments.out.mkdir(parents=True, exist_ok=True)
    print("\n".join(HEAD), flush=True)
    for case in chosen:
        start = time.perf_counter()
        try:
            for row in measure(case, arguments.out):
                rows.append(row)
                print(line(row), flush=True)
                seconds[case] = round(time.perf_counter() - start, 1)
                write(arguments.out, rows, seconds)
        except RuntimeError as error:
            failed.append(str(error))
    print(f"\n{describe(machine())}\n{arguments.out / 'bench.md'}")
    if failed:
        sys.exit("\n".join(f"error: {message}" for message in failed))


def measure(case: str, out: Path) -> Iterator[Row]:
    """Rows of one case, as they come out of its process.

    Raises:
        RuntimeError: if the case failed; its traceback is on standard error.
    """
    scratch = out / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(case, scratch, there))
    process.start()
    there.close()
    try:
        while True:
            yield here.recv()
    except EOFError:
        pass
    finally:
        process.join()
        shutil.rmtree(scratch, ignore_errors=True)
    if process.exitcode:
        raise RuntimeError(f"case {case} ended with status {process.exitcode}")


def _send(case: str, scratch: Path, connection: "Connection[Any, Any]") -> None:
    for row in import_module(f"tests.bench.{MODULES.get(case, case)}").rows(scratch):
        connection.send(row)
    connection.close()


def line(row: Row) -> str:
    """A row of the Markdown table.

    >>> line(Row("reader", "image", 1.234, "ms", "zarr-python", 5.5, "≥ 5 ×", True))
    '| reader | image | 1.23 ms | zarr-python | 5.50 × | ≥ 5 × | yes |  |'
    """
    ratio = "" if row.ratio is None else f"{digits(row.ratio)} ×"
    met = "" if row.met is None else "yes" if row.met else "**no**"
    cells = (row.case, row.what, f"{digits(row.value)} {row.unit}", row.against, ratio, row.target, met, row.note)
    return f"| {' | '.join(cells)} |"


def digits(value: float) -> str:
    """Three significant digits, never in powers of ten.

    >>> [digits(value) for value in (0.98765, 12.345, 1234.5, 0.0)]
    ['0.988', '12.3', '1234', '0.00']
    """
    before = math.floor(math.log10(abs(value))) + 1 if value else 1
    return f"{value:.{max(0, 3 - before)}f}"


def write(out: Path, rows: list[Row], seconds: dict[str, float]) -> None:
    """Write ``bench.json`` and ``bench.md``."""
    about = machine()
    content = {"machine": about, "seconds": seconds, "rows": [asdict(row) for row in rows]}
    (out / "bench.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    (out / "bench.md").write_text("\n".join([*HEAD, *map(line, rows), "", describe(about)]) + "\n")


def machine() -> dict[str, Any]:
    """Processor, accelerators and versions, JSON-ready."""
    info = Path("/proc/cpuinfo")
    models = [text.split(":")[1].strip() for text in info.read_text().splitlines() if text.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": cores(),
        "accelerators": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "python": platform.python_version(),
        "versions": {name: version for name in VERSIONS if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def describe(about: dict[str, Any]) -> str:
    """Machine and versions in one sentence."""
    accelerators = ", ".join(about["accelerators"]) or "no accelerator"
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return f"{about['cores']} cores of {about['processor']}, {accelerators}; Python {about['python']}, {versions}"


if __name__ == "__main__":
    main()
