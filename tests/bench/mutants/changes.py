"""Small wrong changes of single expressions."""

import ast
import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
}
EXTREMA = {
    "min": "max",
    "max": "min",
    "minimum": "maximum",
    "maximum": "minimum",
    "amin": "amax",
    "amax": "amin",
    "argmin": "argmax",
    "argmax": "argmin",
    "floor": "ceil",
    "ceil": "floor",
}
AXES = {0: 1, 1: 0, -1: -2, -2: -1}
AXIS_NAMES = ("axis", "dim")
ORDERED = frozenset(
    [
        *("subtract", "divide", "floor_divide", "power", "remainder", "fmod", "arctan2", "atan2", "copysign", "ldexp"),
        *("linspace", "arange", "range", "clip", "clamp", "searchsorted", "digitize", "interp", "isin", "setdiff1d"),
        *("greater", "less", "matmul", "outer", "where", "tensordot", "integers", "uniform", "normal", "lerp"),
        *("Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose2d", "ConvTranspose3d", "zip", "swapaxes", "transpose"),
    ]
)
"""Functions of libraries that often take either order of their first two arguments without an error."""
PATHS = re.compile(
    "path|folder|root|file|out|name|here|parent|dir|where|store|scratch|split|sample|level|key|home|tmp|str"
)
"""Words in what may be a path, of which ``/`` is no division."""
Signatures = Mapping[str, bool]
"""Whether the first two parameters of a function of the packages are of one type, by its name."""


@dataclass(frozen=True)
class Change:
    """Replacement of one expression.

    Attributes:
        kind: Kind of change, such as ``comparison``.
        node: Expression that is replaced.
        mutated: Source text of the replacement.
    """

    kind: str
    node: ast.expr
    mutated: str


def find_changes(node: ast.AST, signatures: Signatures) -> Iterator[Change]:
    """List the changes that begin at a node.

    Args:
        node: Any node of a syntax tree; its children are not looked at, except bounds of slices and axes of calls.
        signatures: Functions of the packages.
    """
    match node:
        case ast.Compare():
            yield from _change_comparison(node)
        case ast.BoolOp():
            other = copy.copy(node)
            other.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield Change("logic", node, ast.unparse(other))
        case ast.UnaryOp(op=ast.Not()):
            yield Change("negation", node, ast.unparse(node.operand))
        case ast.BinOp():
            yield from _change_arithmetic(node)
        case ast.Slice():
            yield from _change_bounds(node)
        case ast.Call():
            yield from _change_call(node, signatures)
        case ast.Constant() | ast.UnaryOp():
            yield from _change_constant(node)


def read_signatures(trees: Iterable[ast.Module]) -> dict[str, bool]:
    """Read which functions and classes take two first arguments of one type.

    Args:
        trees: Syntax trees of all files of the packages.
    """
    found: dict[str, bool] = {}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ClassDef):
            fields = [each.annotation for each in node.body if isinstance(each, ast.AnnAssign)]
            if fields:
                found[node.name] = found.get(node.name, True) and _are_alike(fields)
        elif isinstance(node, ast.FunctionDef):
            parameters = [each for each in node.args.posonlyargs + node.args.args if each.arg not in ("self", "cls")]
            found[node.name] = found.get(node.name, True) and _are_alike([each.annotation for each in parameters])
    return found


def _are_alike(annotations: Sequence[ast.expr | None]) -> bool:
    first = [ast.unparse(each) for each in annotations[:2] if each is not None]
    return len(first) == 2 and first[0] == first[1]


def called_name(call: ast.Call) -> str:
    """Return the last part of the name of a called function, or nothing."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _change_comparison(node: ast.Compare) -> Iterator[Change]:
    for index, op in enumerate(node.ops):
        if type(op) in COMPARISONS:
            other = copy.copy(node)
            other.ops = [*node.ops[:index], COMPARISONS[type(op)](), *node.ops[index + 1 :]]
            kind = "equality" if isinstance(op, ast.Eq | ast.NotEq) else "comparison"
            yield Change(kind, node, ast.unparse(other))


def _change_arithmetic(node: ast.BinOp) -> Iterator[Change]:
    if type(node.op) not in OPERATORS or any(map(_is_collection, ast.walk(node))):
        return
    if isinstance(node.op, ast.Div) and (PATHS.search(ast.unparse(node.left)) or PATHS.search(ast.unparse(node.right))):
        return
    other = copy.copy(node)
    other.op = OPERATORS[type(node.op)]()
    yield Change("arithmetic", node, ast.unparse(other))


def _is_collection(node: ast.AST) -> bool:
    """Tell text, lists, tuples and sets, of which another operator would fail at once."""
    if isinstance(node, ast.Call):
        return called_name(node) in ("set", "frozenset", "list", "tuple", "sorted", "str", "join")
    literals = (ast.JoinedStr, ast.List, ast.Tuple, ast.ListComp, ast.Set, ast.SetComp)
    return isinstance(node, literals) or _is_text(node)


def _change_bounds(node: ast.Slice) -> Iterator[Change]:
    if node.lower is not None:
        yield Change("bound", node.lower, f"({ast.unparse(node.lower)}) + 1")
    if node.upper is not None:
        yield Change("bound", node.upper, f"({ast.unparse(node.upper)}) - 1")


def _change_call(node: ast.Call, signatures: Signatures) -> Iterator[Change]:
    name = called_name(node)
    for keyword in node.keywords:
        value = _integer(keyword.value)
        if keyword.arg in AXIS_NAMES and value in AXES:
            yield Change("axis", keyword.value, str(AXES[value]))
    if name in EXTREMA:
        other = copy.copy(node)
        if isinstance(node.func, ast.Name):
            other.func = ast.Name(EXTREMA[name])
        elif isinstance(node.func, ast.Attribute):
            other.func = ast.Attribute(node.func.value, EXTREMA[name])
        yield Change("extremum", node, ast.unparse(other))
    elif signatures.get(name, name in ORDERED) and _are_swappable(node.args):
        other = copy.copy(node)
        other.args = [node.args[1], node.args[0], *node.args[2:]]
        yield Change("swap", node, ast.unparse(other))


def _are_swappable(arguments: list[ast.expr]) -> bool:
    first = arguments[:2]
    is_plain = not any(isinstance(each, ast.Starred | ast.JoinedStr) or _is_text(each) for each in first)
    return len(first) == 2 and is_plain and ast.unparse(first[0]) != ast.unparse(first[1])


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _change_constant(node: ast.expr) -> Iterator[Change]:
    value = _integer(node)
    if value is not None:
        yield Change("constant", node, str(value + 1))
        yield Change("constant", node, str(value - 1))


def _integer(node: ast.expr) -> int | None:
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))) if type(value) is int:
            return -value
        case ast.Constant(value=int(value)) if type(value) is int:
            return value
    return None
