"""Copies of a tree in which every mutant can be switched on."""

import ast
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.mutants.sites import Site, Span, list_tree_sites

SWITCH = "emseg_mutants"
"""Name of the package that is copied into the tree."""
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "runs", "build", "dist")


def make_tree(source: Path, out: Path, sites: Sequence[Site]) -> list[Site]:
    """Copy a tree and write all mutants into it, each behind its switch.

    Args:
        source: Tree to copy.
        out: Folder that does not exist yet.
        sites: Mutants; the number of each is its index.

    Returns:
        Sites that the tree does not have.
    """
    found = find_spans(list_tree_sites(source), sites)
    shutil.copytree(source, out, ignore=_LEFT_OUT, symlinks=True)
    shutil.copytree(Path(__file__).parent / "in_tree", out / SWITCH, ignore=shutil.ignore_patterns("__pycache__"))
    rows = []
    for number, site in enumerate(sites):
        place = found.get(site)
        file, span = (place[0].file, place[1]) if place else (site.file, None)
        if span is not None:
            path = out / file
            path.write_text(splice(path.read_text(), span, site.mutated, number))
        rows.append({"number": number, "line": span and span.line, **asdict(site), "file": file})
    (out / SWITCH / "mutants.json").write_text(json.dumps(rows, indent=1) + "\n")
    return [site for site in sites if site not in found]


def find_spans(present: Mapping[Site, Span], sites: Sequence[Site]) -> dict[Site, tuple[Site, Span]]:
    """Find sites in a tree, in their own file or in the only other one that has them.

    Args:
        present: Sites of the tree.
        sites: Sites to find.

    Returns:
        Site of the tree and its place, for each that was found.
    """
    by_text: dict[tuple[str, str, int, str, str], list[Site]] = {}
    for site in present:
        by_text.setdefault(_text_of(site), []).append(site)
    found = {}
    for site in sites:
        same = [site] if site in present else by_text.get(_text_of(site), [])
        if len(same) == 1:
            found[site] = (same[0], present[same[0]])
    return found


def _text_of(site: Site) -> tuple[str, str, int, str, str]:
    return site.name, site.source, site.ordinal, site.kind, site.mutated


def splice(text: str, span: Span, mutated: str, number: int) -> str:
    """Put an expression behind a switch; every other line keeps its number.

    Args:
        text: Source text of a module that begins with a docstring.
        span: Place of the expression.
        mutated: Replacement, on one line.
        number: Number of the mutant.
    """
    switch = f"(({mutated}) if _{SWITCH}.is_on({number}) else ("
    begin, end = _find(text, span.line, span.column), _find(text, span.end_line, span.end_column)
    # An import where it is used would be no constant for the compiler of torch.
    head = _find(text, *_end_of_head(text))
    data = text.encode()
    parts = (
        data[:head],
        f"; import {SWITCH} as _{SWITCH}",
        data[head:begin],
        switch,
        data[begin:end],
        "))",
        data[end:],
    )
    return b"".join(part.encode() if isinstance(part, str) else part for part in parts).decode()


def _find(text: str, line: int, column: int) -> int:
    """Find the index of a byte by its line and column."""
    return sum(map(len, text.encode().splitlines(keepends=True)[: line - 1])) + column


def _end_of_head(text: str) -> tuple[int, int]:
    """Find where the docstring of a module ends, or the imports of the future that follow it."""
    first, *others = ast.parse(text).body
    assert isinstance(first, ast.Expr), "a docstring is expected"
    future = [each for each in others if isinstance(each, ast.ImportFrom) and each.module == "__future__"]
    last = [first, *future][-1]
    assert last.end_lineno is not None
    assert last.end_col_offset is not None
    return last.end_lineno, last.end_col_offset
