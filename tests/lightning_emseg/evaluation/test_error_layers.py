"""Error maps and objects as label layers: what other software reads, and what is never replaced."""

from pathlib import Path
from typing import Any

import numpy as np
import ome_zarr.io
import ome_zarr.reader
import pytest
import zarr

from data_modules.errors import UserError
from data_modules.store import LabelInfo, MosaicStore, SampleWriter, read, verify
from lightning_emseg.evaluation.error_layers import halve_worst, make_error_layers, write_label_layers
from lightning_emseg.evaluation.errors import ErrorAnalysis, PixelOutcome, analyse
from tests.support.error_cases import Pixels, broken_membrane, compare

KEY = "test/a"


def a_store(path: Path, truth: Pixels) -> Path:
    with SampleWriter(path, "test", "a", truth.shape, (4.0,) * truth.ndim) as sample:
        label = sample.add_label("membrane", LabelInfo("binary"))
        sample.image.write(90 * truth)
        label.write(truth)
    return path


def an_analysis() -> ErrorAnalysis:
    return analyse(compare(*broken_membrane()), tolerance_nm=8)


def read_label(store: Path, name: str) -> Pixels:
    array = MosaicStore(store).sample(KEY).label(name)
    return read(array, [slice(0, side) for side in array.shape])


def image_label(store: Path, name: str) -> Any:
    ome: Any = zarr.open_group(store / KEY / "labels" / name, mode="r").attrs["ome"]
    return ome["image-label"]


def test_layers_are_labels_of_the_store(tmp_path: Path) -> None:
    truth, _ = broken_membrane()
    store, analysis = a_store(tmp_path / "s", truth), an_analysis()
    assert analysis.breaks is not None
    write_label_layers(store, KEY, make_error_layers(analysis), {"threshold": 0.5})
    sample = MosaicStore(store).sample(KEY)
    assert list(sample.labels) == ["membrane", "errors", "spurious_membranes", "breaks"]
    np.testing.assert_array_equal(read_label(store, "membrane"), truth)
    np.testing.assert_array_equal(read_label(store, "errors"), analysis.codes)
    np.testing.assert_array_equal(read_label(store, "breaks"), analysis.breaks.labels)
    np.testing.assert_array_equal(read_label(store, "spurious_membranes"), analysis.spurious.labels)
    info = sample.label("errors").info
    assert info is not None
    assert info.kind == "classes"
    assert info.classes[5] == "missed membrane"
    assert sum(info.counts.values()) == truth.size
    assert info.counts[PixelOutcome.FALSE_NEGATIVE] == 48
    assert verify(MosaicStore(store)) == []
    group = zarr.open_group(store / KEY / "labels" / "errors", mode="r")
    assert group.attrs["emseg"]["provenance"]["threshold"] == 0.5  # type: ignore[call-overload,index]
    assert [path.name for path in (store / KEY / "labels").glob(".*")] == []


def test_ome_zarr_reads_layers_with_names_and_colours(tmp_path: Path) -> None:
    truth, _ = broken_membrane()
    store, analysis = a_store(tmp_path / "s", truth), an_analysis()
    write_label_layers(store, KEY, make_error_layers(analysis))
    location = ome_zarr.io.parse_url(store / KEY, mode="r")
    found = {node.zarr.basename(): node for node in ome_zarr.reader.Reader(location)()}
    errors = found["errors"]
    np.testing.assert_array_equal(np.asarray(errors.data[0]), analysis.codes)
    assert set(found) >= {"errors", "breaks", "spurious_membranes", "membrane"}
    assert set(errors.metadata["color"]) == {1, 2, 3, 4, 5, 255}
    np.testing.assert_allclose(errors.metadata["color"][4], [230 / 255, 159 / 255, 0, 1])
    assert errors.metadata["properties"][5] == {"class": "missed membrane"}
    assert image_label(store, "errors")["source"] == {"image": "../../"}


def test_lower_levels_keep_thin_errors_at_their_place(tmp_path: Path) -> None:
    truth = np.zeros((70, 2101), np.uint8)
    predicted = truth.copy()
    truth[11, 1000:1001] = 1
    predicted[:, 1777] = 1
    store = a_store(tmp_path / "s", truth)
    write_label_layers(store, KEY, make_error_layers(analyse(compare(truth, predicted), 0)))
    labels = store / KEY / "labels"
    for level, shape in ((1, (35, 1051)), (2, (18, 526))):
        errors = np.asarray(zarr.open_array(labels / "errors" / str(level), mode="r")[...])
        objects = np.asarray(zarr.open_array(labels / "spurious_membranes" / str(level), mode="r")[...])
        assert errors.shape == objects.shape == shape
        assert errors[11 >> level, 1000 >> level] == PixelOutcome.FALSE_NEGATIVE
        assert (errors[:, 1777 >> level] == PixelOutcome.FALSE_POSITIVE).all()
        np.testing.assert_array_equal(objects > 0, errors == PixelOutcome.FALSE_POSITIVE)
    ome: Any = zarr.open_group(labels / "errors", mode="r").attrs["ome"]
    # The first pixel of level 1 stands for a block of 2 × 2: its centre lies half a pixel further.
    moved = ome["multiscales"][0]["datasets"][1]["coordinateTransformations"]
    assert moved == [{"type": "scale", "scale": [8, 8]}, {"type": "translation", "translation": [2, 2]}]


def test_halving_ids_keeps_the_worst() -> None:
    ids = np.array([[0, 7, 0, 0, 5], [2, 9, 0, 0, 0], [0, 0, 3, 0, 1]], np.uint32)
    np.testing.assert_array_equal(halve_worst(ids), [[2, 0, 5], [0, 3, 1]])


def test_volumes_get_layers_without_breaks(tmp_path: Path) -> None:
    truth = np.zeros((5, 20, 21), np.uint8)
    predicted = truth.copy()
    predicted[2, 3:17, 4:18] = 1
    store = a_store(tmp_path / "s", truth)
    write_label_layers(store, KEY, make_error_layers(analyse(compare(truth, predicted, (30, 4, 4)), 8)))
    assert list(MosaicStore(store).sample(KEY).labels) == ["membrane", "errors", "spurious_membranes"]
    np.testing.assert_array_equal(read_label(store, "spurious_membranes"), predicted)


def test_only_own_layers_are_overwritten(tmp_path: Path) -> None:
    truth, _ = broken_membrane()
    store, layers = a_store(tmp_path / "s", truth), make_error_layers(an_analysis())
    write_label_layers(store, KEY, layers)
    with pytest.raises(UserError, match=r"labels/errors exists: allow it to be overwritten"):
        write_label_layers(store, KEY, layers)
    other = analyse(compare(truth, truth), 8)
    write_label_layers(store, KEY, make_error_layers(other), overwrite=True)
    np.testing.assert_array_equal(read_label(store, "errors"), truth)
    assert list(MosaicStore(store).sample(KEY).labels) == ["membrane", "errors", "spurious_membranes", "breaks"]
    with pytest.raises(UserError, match=r"labels/membrane exists and holds no error layer: remove it"):
        write_label_layers(store, KEY, {"membrane": layers["errors"]}, overwrite=True)
    np.testing.assert_array_equal(read_label(store, "membrane"), truth)


def test_unlabelled_sample_gets_its_first_labels(tmp_path: Path) -> None:
    truth, _ = broken_membrane()
    with SampleWriter(tmp_path / "s", "test", "a", truth.shape, (4.0, 4.0)) as sample:
        sample.image.write(truth)
    write_label_layers(tmp_path / "s", KEY, make_error_layers(an_analysis()))
    assert len(MosaicStore(tmp_path / "s").sample(KEY).labels) == 3


def test_unwritable_layers_are_refused(tmp_path: Path) -> None:
    layers = make_error_layers(an_analysis())
    with pytest.raises(UserError, match="no store at"):
        write_label_layers(tmp_path / "none", KEY, layers)
    store = a_store(tmp_path / "s", np.zeros((60, 99), np.uint8))
    with pytest.raises(UserError, match="no sample 'test/b'"):
        write_label_layers(store, "test/b", layers)
    with pytest.raises(UserError, match=r"layer 'errors' is \(60, 100\) px, but sample test/a of .* \(60, 99\) px"):
        write_label_layers(store, KEY, layers)
    with pytest.raises(UserError, match="can be read, not written"):
        write_label_layers("s3://bucket/s", KEY, layers)
