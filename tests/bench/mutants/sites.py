"""Places of both packages at which a mutant can be made."""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.bench.mutants.changes import AXIS_NAMES, Signatures, called_name, find_changes, read_signatures

PACKAGES = ("data_modules", "lightning_emseg")
SILENT_CALLS = frozenset(
    [
        *("warn", "warning", "rank_zero_warn", "rank_zero_info", "info", "debug", "print", "cast", "UserError"),
        *("ValueError", "TypeError", "RuntimeError", "KeyError", "FileNotFoundError", "MisconfigurationException"),
    ]
)
"""Functions whose arguments are only read by people or by type checkers."""
SILENT_KEYWORDS = frozenset(
    [
        *("dpi", "fontsize", "linewidth", "alpha", "zorder", "figsize", "quality", "nrows", "ncols", "indent"),
        *("chunksize", "max_workers", "timeout", "maxsize", "stacklevel", "compresslevel", "mininterval"),
    ]
)
"""Arguments whose integers change neither results nor messages that tests could check."""
COSMETIC = (
    "lightning_emseg/attribution/pictures.py",
    "lightning_emseg/core/figures.py",
    "lightning_emseg/core/pictures.py",
    "lightning_emseg/evaluation/error_pictures.py",
    "lightning_emseg/results/page/",
)
"""Files and folders in which integers and arguments are mostly sizes, positions and colours of pictures."""
COSMETIC_KINDS = frozenset({"constant", "swap"})
Parents = dict[ast.AST, tuple[ast.AST, str]]


@dataclass(frozen=True)
class Site:
    """Mutant of one expression, found again by its text where lines have moved.

    Attributes:
        file: Path in the tree, with ``/``.
        name: Qualified name of the function.
        source: Source text of the expression, as ``ast.unparse`` writes it.
        ordinal: Number among equal changes of the function, from 0.
        kind: Kind of change.
        mutated: Source text of the replacement.
    """

    file: str
    name: str
    source: str
    ordinal: int
    kind: str
    mutated: str

    @property
    def room(self) -> str:
        """Folder of the file."""
        return str(PurePosixPath(self.file).parent)


@dataclass(frozen=True)
class Span:
    """Part of a source text: lines from 1, columns in bytes."""

    line: int
    column: int
    end_line: int
    end_column: int


def list_tree_sites(tree: Path) -> dict[Site, Span]:
    """List the sites of both packages of a tree."""
    files = sorted(path for package in PACKAGES for path in (tree / package).rglob("*.py"))
    signatures = read_signatures(ast.parse(path.read_text()) for path in files)
    found: dict[Site, Span] = {}
    for path in files:
        found.update(list_sites(path.read_text(), path.relative_to(tree).as_posix(), signatures))
    return found


def list_sites(text: str, file: str, signatures: Signatures) -> Iterator[tuple[Site, Span]]:
    """List the sites of one file, in the order of the text.

    Args:
        text: Source text.
        file: Path that the sites carry.
        signatures: Functions of the packages.
    """
    tree = ast.parse(text)
    parents: Parents = {
        child: (node, field)
        for node in ast.walk(tree)
        for field, value in ast.iter_fields(node)
        for child in (value if isinstance(value, list) else [value])
        if isinstance(child, ast.AST)
    }
    counts: Counter[tuple[str, ...]] = Counter()
    for node in ast.walk(tree):
        for change in find_changes(node, signatures):
            name = _function_of(change.node, parents)
            if name is None or not _matters(change.node, change.kind, file, parents):
                continue
            source = ast.unparse(change.node)
            key = (name, source, change.kind, change.mutated)
            yield Site(file, name, source, counts[key], change.kind, change.mutated), _span(change.node)
            counts[key] += 1


def _span(node: ast.expr) -> Span:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return Span(node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)


def _ancestors(node: ast.AST, parents: Parents) -> Iterator[tuple[ast.AST, str]]:
    """List ancestors from the inside out, each with its field that holds the child."""
    while node in parents:
        parent, field = parents[node]
        yield parent, field
        node = parent


def _function_of(node: ast.AST, parents: Parents) -> str | None:
    """Return the qualified name of the function whose body holds an expression; none where no body does."""
    names: list[str] = []
    is_in_body = False
    for parent, field in _ancestors(node, parents):
        if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef):
            if field != "body":
                return None
            is_in_body = True
            names.append(parent.name)
        elif isinstance(parent, ast.ClassDef):
            if not is_in_body:
                return None
            names.append(parent.name)
    return ".".join(reversed(names)) if is_in_body else None


def _matters(node: ast.expr, kind: str, file: str, parents: Parents) -> bool:
    """Tell whether an expression is evaluated, and for more than a message or the look of a picture."""
    if kind in COSMETIC_KINDS and file.startswith(COSMETIC):
        return False
    if kind == "constant" and _is_of_other_kind(node, parents):
        return False
    return not any(_is_silent(parent, field) for parent, field in _ancestors(node, parents))


def _is_of_other_kind(node: ast.expr, parents: Parents) -> bool:
    """Tell constants that are bounds, axes or the digits of a negative number."""
    parent, _ = parents[node]
    if isinstance(parent, ast.keyword):
        return parent.arg in AXIS_NAMES or parent.arg in SILENT_KEYWORDS
    return isinstance(parent, ast.Slice) or (isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.USub))


def _is_silent(parent: ast.AST, field: str) -> bool:
    never = ast.JoinedStr | ast.Raise | ast.Assert | ast.pattern | ast.arguments | ast.Delete | ast.Await | ast.Yield
    if isinstance(parent, never) or field in ("annotation", "returns", "decorator_list", "bases"):
        return True
    if isinstance(parent, ast.Call):
        # The function itself may be an expression that matters.
        return field != "func" and called_name(parent) in SILENT_CALLS
    return isinstance(parent, ast.If) and ast.unparse(parent.test).endswith("TYPE_CHECKING")
