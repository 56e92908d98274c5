"""Sizes of chunks, shards and levels, and where levels lie."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_modules.store.layout import chunk_and_shard, level_shapes, multiscales


def test_a_mosaic_is_tens_of_files() -> None:
    shape = (9958, 9959)
    chunk, shard = chunk_and_shard(shape)
    assert (chunk, shard) == ((512, 512), (2048, 2048))

    def shards(level: tuple[int, ...]) -> int:
        return int(np.prod([-(-side // piece) for side, piece in zip(level, chunk_and_shard(level)[1], strict=True)]))

    assert shards(shape) == 25
    assert sum(shards(level) for level in level_shapes(shape)) < 50


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=3).map(tuple))
def test_shards_hold_whole_chunks(shape: tuple[int, ...]) -> None:
    chunk, shard = chunk_and_shard(shape)
    for side, small, large in zip(shape, chunk, shard, strict=True):
        assert large % small == 0
        assert 1 <= small <= side
        assert large < side + small, "no shard reaches further past the end than a chunk"


def test_levels_lie_on_top_of_each_other() -> None:
    """A mean of 2 × 2 px has its centre half a pixel further; the first of two pixels stays where it is."""
    image, label = (multiscales("a", 4, (2.0, 3.0), label) for label in (False, True))
    shifts = [dataset["coordinateTransformations"][1:] for dataset in image["datasets"]]
    assert shifts[0] == []
    for level, (shift,) in enumerate(shifts[1:], start=1):
        centre = (np.arange(2**level)).mean()
        assert shift == {"type": "translation", "translation": [2.0 * centre, 3.0 * centre]}
    assert all(len(dataset["coordinateTransformations"]) == 1 for dataset in label["datasets"])
