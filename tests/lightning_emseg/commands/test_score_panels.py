"""Panels and official scores of `emseg score`."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from lightning_emseg.commands import main
from lightning_emseg.metrics.classes import VRand
from lightning_emseg.metrics.mosaic_pair import MosaicPair
from lightning_emseg.metrics.segmentation.cells import ISBI_LEVELS
from tests.support import DATA, tiny
from tests.support.score_checks import error, folders, images, run, save

URISC = DATA / "urisc_eval"
BEST = {
    "v_rand": 1.0,
    "v_info": 1.0,
    "arand": 0.0,
    "arand_recall": 1.0,
    "voi": 0.0,
    "f1_within_10nm": 1.0,
    "assd_nm": 0.0,
    "hausdorff95_nm": 0.0,
    "skeleton_recall": 1.0,
    "skeleton_precision": 1.0,
    "breaks": 0.0,
    "membrane_f1": 1.0,
}


def lattice(shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    """Membranes between cells of different sizes."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    mask: NDArray[np.uint8] = (np.abs(field) < 0.25 * field.std()).astype(np.uint8)
    return mask


def store_of(path: Path, shapes: dict[str, tuple[int, ...]], nm: float = 4.0) -> Path:
    for index, (key, shape) in enumerate(shapes.items()):
        tiny.write_sample(path, key, np.zeros(shape, np.uint8), lattice(shape, index), pixel_size_nm=nm)
    return path


def test_truth_against_itself_is_perfect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = store_of(tmp_path / "s.zarr", {"test/a": (90, 80), "test/b": (70, 100)})
    scores = run(capsys, store, store, "--prediction-label", "membrane", "--panel", "full")
    for row in scores["mosaics"].values():
        assert {name: row[name] for name in BEST} == pytest.approx(BEST, abs=1e-9)
    assert scores["se"]["v_rand"] == pytest.approx(0, abs=1e-9)


def test_volumes_have_what_is_defined_in_volumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = store_of(tmp_path / "s.zarr", {"test/a": (9, 40, 50), "test/b": (60, 50)})
    words = (store, store, "--prediction-label", "membrane", "--panel", "full")
    rows = run(capsys, *words)["mosaics"]
    flat = {name for name in BEST if name.startswith("skeleton") or name.startswith("breaks")}
    assert {name: rows["test/a"][name] for name in BEST} == {
        name: None if name in flat else pytest.approx(value, abs=1e-9) for name, value in BEST.items()
    }
    assert rows["test/b"]["breaks"] == 0
    assert "test/a is a volume, and --official urisc scores images" in error(*words, "--official", "urisc")


def test_scores_in_nm_need_a_pixel_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (*folders(tmp_path), "--panel", "full")
    message = error(*words)
    assert "s0.png does not say how large its pixels are" in message
    assert "pass --pixel-size-nm" in message
    near, far = (run(capsys, *words, "--pixel-size-nm", size)["mosaics"]["s0"] for size in (2, 8))
    assert far["assd_nm"] == pytest.approx(4 * near["assd_nm"], rel=1e-6)
    assert far["v_rand"] == near["v_rand"]


def test_shifts_show_in_distances(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[:, 30] = 1
    save(tmp_path / "t.png", mask)
    save(tmp_path / "p.png", np.roll(mask, 2, axis=1))
    words = (tmp_path / "p.png", tmp_path / "t.png", "--panel", "full", "--pixel-size-nm")
    row = run(capsys, *words, 4)["mosaics"]["p"]
    assert row["membrane_f1"] == 0
    assert (row["assd_nm"], row["hausdorff95_nm"], row["f1_within_10nm"]) == (8, 8, 1)
    assert run(capsys, *words, 6)["mosaics"]["p"]["f1_within_10nm"] == 0


def test_scores_that_do_not_exist_are_valid_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prediction, truth = folders(tmp_path)
    save(prediction / "s0.png", np.zeros((40, 50), np.uint8))
    words = ["score", str(prediction), str(truth), "--panel", "full", "--pixel-size-nm", "4"]
    main([*words, "--out", str(tmp_path / "out")])

    def refuse(text: str) -> Any:
        raise AssertionError(text)

    scores = json.loads((tmp_path / "out" / "scores.json").read_text(), parse_constant=refuse)
    assert scores["mosaics"]["s0"]["assd_nm"] is None
    assert scores["mosaics"]["s1"]["assd_nm"] > 0


def test_official_urisc_equals_its_formula(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = []
    for name, (probability, truth) in images().items():
        random = np.random.default_rng(7)
        grey = np.where(truth, random.integers(0, 9, truth.shape), random.integers(247, 256, truth.shape))
        save(tmp_path / "t" / f"{name}.png", grey.astype(np.uint8))
        save(tmp_path / "p" / f"{name}.png", probability)
        weight, found = 255.0 - grey, probability >= 120
        precision, recall = (found & (weight > 0)).sum() / found.sum(), weight[found].sum() / weight.sum()
        values.append(2 * precision * recall / (precision + recall))
    with pytest.warns(UserWarning, match="s0: membrane exceeds a fifth of the background"):
        scores = run(capsys, tmp_path / "p", tmp_path / "t", "--official", "urisc", "--threshold", 120 / 255)
    assert [row["urisc_f1"] for row in scores["mosaics"].values()] == pytest.approx(values, abs=1e-9)
    assert scores["mean"]["urisc_binary_f1"] == pytest.approx(scores["mean"]["membrane_f1"], abs=1e-12)
    assert scores["mean"]["urisc_f1"] != pytest.approx(scores["mean"]["membrane_f1"], abs=1e-3)


def test_official_urisc_ignores_unknown_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, truth = images(share=0.1)["s0"]
    grey = np.where(truth, 3, np.random.default_rng(0).integers(247, 256, truth.shape)).astype(np.uint8)
    marked = np.where(truth, 1, 0).astype(np.uint8)
    marked[:10] = 255
    save(tmp_path / "t.png", grey)
    save(tmp_path / "p.png", marked)
    row = run(capsys, tmp_path / "p.png", tmp_path / "t.png", "--official", "urisc")["mosaics"]["p"]
    weight = 255.0 - grey[10:]
    assert row["urisc_recall"] == pytest.approx(weight[truth[10:]].sum() / weight.sum(), abs=1e-12)
    assert row["urisc_precision"] == 1


@pytest.mark.skipif(not URISC.is_dir(), reason="needs ../shared/data/urisc_eval")
def test_official_urisc_on_its_own_images(capsys: pytest.CaptureFixture[str]) -> None:
    published = json.loads((URISC / "official_f1.json").read_text())["F1"]
    for pair, f1 in published.items():
        prediction, truth = pair.split("|")
        scores = run(capsys, URISC / prediction, URISC / truth, "--official", "urisc")
        assert scores["mean"]["urisc_f1"] == pytest.approx(f1, abs=1e-6)


def test_official_isbi2012_is_the_best_mean_over_sections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truths, maps = [], []
    for index in range(3):
        truth = lattice((80, 80), index)
        noise = gaussian_filter(np.random.default_rng(index).normal(size=truth.shape), 1)
        # Each section has its best threshold elsewhere.
        maps.append(np.clip(40 + 50 * index + 70 * truth + 60 * noise, 0, 255).astype(np.uint8))
        truths.append(truth)
    save(tmp_path / "p.tif", np.stack(maps))
    save(tmp_path / "t.tif", np.stack(truths))
    words = (tmp_path / "p.tif", tmp_path / "t.tif", "--prediction-polarity", "bright", "--truth-polarity", "bright")
    scores = run(capsys, *words, "--official", "isbi2012")
    # V-Rand at one threshold, which has tests of its own, at each of the competition's.
    table = [
        [VRand().row(MosaicPair(truth, found, level, (4.0, 4.0)))[0] for level in ISBI_LEVELS]
        for truth, found in zip(truths, maps, strict=True)
    ]
    means = np.mean(table, axis=0)
    best = int(means.argmax())
    assert scores["official"]["v_rand"]["maximum"] == pytest.approx(means.max(), abs=1e-12)
    assert scores["official"]["v_rand"]["threshold"] == pytest.approx(ISBI_LEVELS[best] / 255)
    assert scores["mean"]["isbi2012_v_rand"] == pytest.approx(means.max(), abs=1e-12)
    assert [row["isbi2012_v_rand"] for row in scores["mosaics"].values()] == pytest.approx(
        [row[best] for row in table], abs=1e-12
    )
    assert max(map(max, table)) > means.max()
    assert any(note.startswith("isbi2012 v_info: ") for note in scores["notes"])
    assert not math.isnan(scores["se"]["isbi2012_v_info"])
