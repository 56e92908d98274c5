"""Tables of what became of the mutants."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.mutants.trees import SWITCH

Row = Mapping[str, Any]


def read_results(tree: Path) -> list[Row]:
    """Read the results of a mutated tree, in the order of the mutants."""
    return [json.loads(path.read_text()) for path in sorted((tree / SWITCH / "results").glob("*.json"))]


def write_table(trees: Sequence[Path]) -> str:
    """Write a table with a line for each mutant and a column for each tree.

    Args:
        trees: Mutated trees with the same mutants; places are those of the first.
    """
    results = [{row["number"]: row for row in read_results(tree)} for tree in trees]
    names = [tree.name for tree in trees]
    lines = ["| mutant | file:line | change | " + " | ".join(names) + " |", "| --- " * (3 + len(trees)) + "|"]
    for number, row in sorted(results[0].items()):
        change = f"{row['kind']}: `{_cell(row['source'])}` → `{_cell(row['mutated'])}`"
        ends = [_describe(result.get(number)) for result in results]
        lines.append(f"| {number} | {row['file']}:{row['line']} | {change} | " + " | ".join(ends) + " |")
    totals = [Counter(row["outcome"] for row in result.values()) for result in results]
    lines += ["", *(f"{name}: {_count(total)}" for name, total in zip(names, totals, strict=True))]
    return "\n".join(lines) + "\n"


def _count(total: Counter[str]) -> str:
    return ", ".join(f"{number} {outcome}" for outcome, number in total.most_common())


def _describe(row: Row | None) -> str:
    if row is None:
        return "not run"
    by = f" by `{_cell(row['by'])}`" if "by" in row else f", {row.get('run', 0)} tests run"
    return f"{row['outcome']}{by}, {row['seconds']} s"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
