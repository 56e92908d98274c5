"""Reading ahead: the same items in the same order, one of them early, errors where they belong."""

import threading

import pytest

from data_modules.read_ahead import ReadAhead


def test_items_come_as_asked_for_in_any_order() -> None:
    ahead = ReadAhead(lambda index: index * index, 5)
    assert [ahead[index] for index in (0, 1, 2, 4, 3, 0, 4)] == [0, 1, 4, 16, 9, 0, 16]


def test_the_next_item_is_loaded_ahead() -> None:
    loaded: dict[int, threading.Event] = {index: threading.Event() for index in range(3)}
    threads = []

    def load(index: int) -> int:
        threads.append(threading.current_thread() is threading.main_thread())
        loaded[index].set()
        return index

    ahead = ReadAhead(load, 3)
    assert ahead[0] == 0
    assert loaded[1].wait(10), "the next item is loaded without being asked for"
    assert not loaded[2].is_set(), "and no more than that"
    assert [ahead[1], ahead[2]] == [1, 2]
    assert threads == [True, False, False]


def test_errors_are_raised_at_their_item() -> None:
    def load(index: int) -> int:
        if index == 1:
            raise ValueError("damaged")
        return index

    ahead = ReadAhead(load, 3)
    assert ahead[0] == 0
    with pytest.raises(ValueError, match="damaged"):
        ahead[1]
    assert ahead[2] == 2
