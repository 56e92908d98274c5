"""The two sides of a comparison at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def at_once(tasks: Sequence[Callable[[], T]], threads: int) -> list[T]:
    """Results of tasks that let other threads run, as numpy's and cc3d's do, in the order of the tasks.

    >>> at_once([lambda: 1, lambda: 2], threads=2)
    [1, 2]
    """
    if threads < 2:
        return [task() for task in tasks]
    with ThreadPoolExecutor(min(threads, len(tasks))) as pool:
        return [each.result() for each in [pool.submit(task) for task in tasks]]
