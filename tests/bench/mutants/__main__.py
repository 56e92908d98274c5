"""Sixty mutants of both packages, and the tests that kill them.

    python -m tests.bench.mutants make TREE [--tree SOURCE] [--seed 0] [--count 60] [--common OTHER] [--like MUTATED]
    python -m tests.bench.mutants record TREE [arguments of pytest]
    python -m tests.bench.mutants run TREE [--workers 2] [--limit 900] [--numbers 3 7]
    python -m tests.bench.mutants table TREE ...

``make`` copies a tree and puts every mutant behind a switch: ``EMSEG_MUTANT=7`` in the environment turns on number 7,
in all processes. ``record`` runs the tests once and notes which reach which mutant. ``run`` lets these tests try to
kill each. ``table`` prints the results of one tree or several.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.bench.mutants.choice import choose, is_excluded, read_excluded
from tests.bench.mutants.sites import Site, list_tree_sites
from tests.bench.mutants.tables import write_table
from tests.bench.mutants.trees import SWITCH, find_spans, make_tree
from tests.support import ROOT


def main() -> None:
    """Carry out one verb."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mutants")
    verbs = parser.add_subparsers(dest="verb", required=True)
    make = verbs.add_parser("make", help="write a mutated copy of a tree")
    make.add_argument("out", type=Path)
    make.add_argument("--tree", type=Path, default=ROOT, help="tree to copy; this one by default")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--count", type=int, default=60)
    make.add_argument("--common", type=Path, action="append", default=[], help="other tree that must have the sites")
    make.add_argument("--like", type=Path, help="mutated tree with the sites to use instead of choosing")
    for verb, text in (("record", "run the tests once and note what they reach"), ("run", "try to kill each mutant")):
        verbs.add_parser(verb, help=text).add_argument("tree", type=Path)
    verbs.add_parser("table", help="print results").add_argument("trees", type=Path, nargs="+")
    options, more = parser.parse_known_args()
    if options.verb == "make":
        _make(options)
    elif options.verb == "table":
        print(write_table(options.trees), end="")
    elif options.verb == "record":
        log = {"EMSEG_MUTANT_LOG": str(options.tree.absolute() / SWITCH / "log")}
        sys.exit(_start(options.tree, ["pytest", "-p", f"{SWITCH}.recorder", *more], log))
    else:
        status = _start(options.tree, [f"{SWITCH}.killing", *more], {})
        (options.tree / SWITCH / "results.md").write_text(write_table([options.tree]))
        sys.exit(status)


def _make(options: argparse.Namespace) -> None:
    missing = make_tree(options.tree, options.out, _list_sites(options))
    for row in json.loads((options.out / SWITCH / "mutants.json").read_text()):
        print(f"{row['number']:2} {row['file']}:{row['line']} {row['kind']}: {row['source']} → {row['mutated']}")
    for site in missing:
        print(f"not found: {site.file}: {site.name}: {site.source} ({site.kind})", file=sys.stderr)


def _list_sites(options: argparse.Namespace) -> list[Site]:
    if options.like is not None:
        rows = json.loads((options.like / SWITCH / "mutants.json").read_text())
        return [Site(**{key: row[key] for key in Site.__dataclass_fields__}) for row in rows]
    excluded = read_excluded()
    sites = [site for site in list_tree_sites(options.tree) if not is_excluded(site, excluded)]
    for other in options.common:
        found = find_spans(list_tree_sites(other), sites)
        sites = [site for site in sites if site in found]
    return choose(sites, options.count, options.seed)


def _start(tree: Path, words: list[str], more: dict[str, str]) -> int:
    """Start a module of Python in a mutated tree, whose packages come first on the path."""
    environment = {**os.environ, "PYTHONPATH": str(tree.absolute()), **more}
    return subprocess.run([sys.executable, "-m", *words], cwd=tree, env=environment).returncode


if __name__ == "__main__":
    main()
