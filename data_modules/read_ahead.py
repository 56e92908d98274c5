"""Reading the next item while the present one is worked on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ReadAhead(Generic[Item]):
    """Hands out items that are asked for in order; a thread loads the next one meanwhile.

    At most one item is held beside the one that was handed out.

    Args:
        load: Loads the item of an index; what it raises is raised where that item is asked for.
        length: Number of items.
    """

    def __init__(self, load: Callable[[int], Item], length: int) -> None:
        self._load, self._length = load, length
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")
        self._next: tuple[int, Future[Item]] | None = None

    def __getitem__(self, index: int) -> Item:
        expected, self._next = self._next, None
        item = expected[1].result() if expected is not None and expected[0] == index else self._load(index)
        if index + 1 < self._length:
            self._next = index + 1, self._thread.submit(self._load, index + 1)
        return item
