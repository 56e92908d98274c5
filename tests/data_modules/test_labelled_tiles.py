"""Labels of tiles and their division into training and held-out ones."""

from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.labelled_tiles import split_labels
from data_modules.tile_set import TileSet
from tests.support.tile_sets import write_source


def test_labels_are_held_out_by_class_and_seed(tmp_path: Path) -> None:
    for name, number in (("good", 14), ("poor", 12)):
        write_source(tmp_path / "set", name, np.zeros((number, 224, 224), np.uint8))
    rows = [f"good,{tile},informative" for tile in range(14)] + [f"poor,{tile},uninformative" for tile in range(12)]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["source,tile,label", *rows]) + "\n")
    sources = TileSet(tmp_path / "set").sources()
    split = split_labels(labels, sources, 0.25, 0)
    assert sorted(int(split.labels[source][tile]) for source, tile in split.held_out.tolist()) == [0] * 3 + [1] * 4
    both = {tuple(tile) for part in (split.train, split.held_out) for tile in part.tolist()}
    assert len(both) == len(split.train) + len(split.held_out) == 26
    again = split_labels(labels, sources, 0.25, 0)
    assert np.array_equal(split.held_out, again.held_out)
    assert not np.array_equal(split.held_out, split_labels(labels, sources, 0.25, 1).held_out)
    odd = tmp_path / "odd.csv"
    odd.write_text("source,tile,label\ngood,0,informative\ngood,1,blurred\n")
    with pytest.raises(UserError, match="has the label 'blurred'"):
        split_labels(odd, sources, 0.25, 0)
    odd.write_text("source,tile,label\ngood,0,informative\ngood,1,informative\npoor,0,uninformative\n")
    with pytest.raises(UserError, match="calls 1 tiles uninformative"):
        split_labels(odd, sources, 0.25, 0)
