"""`emseg features`: what is written is what was measured, for any number of encoders; bad input is named."""

import csv
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from lightning_emseg.commands import main
from lightning_emseg.commands.features_inputs import choose_tiles
from lightning_emseg.features.downsampling import keep_resolution
from lightning_emseg.features.encoder import open_encoder
from lightning_emseg.features.firing_rate import measure_firing
from lightning_emseg.features.occlusion import measure_occlusion
from lightning_emseg.features.selectivity import measure_selectivity
from tests.support.tile_sets import make_tile_set, textures
from tests.support.undrawn import undrawn

Pixels = NDArray[np.uint8]
ENCODERS = ("--encoders", "a=random:test_resnet:0", "b=random:test_resnet:1")


def save(path: Path, pixels: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def blobs(seed: int, shape: tuple[int, int] = (64, 70)) -> tuple[Pixels, NDArray[np.bool_]]:
    """Dark blobs in a grey image."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 5)
    mask = field > 1.2 * field.std()
    return (160 - 90 * mask + 10 * np.random.default_rng(seed).random(shape)).astype(np.uint8), mask


@pytest.fixture
def organelles(tmp_path: Path) -> tuple[Path, Path, dict[str, tuple[Pixels, NDArray[np.bool_]]]]:
    made = {f"m{index}": blobs(index) for index in range(2)}
    for name, (image, mask) in made.items():
        save(tmp_path / "images" / f"{name}.png", image)
        save(tmp_path / "masks" / f"{name}.png", 255 * mask.astype(np.uint8))
    return tmp_path / "images", tmp_path / "masks", made


def grey_norms(images: list[Pixels]) -> tuple[float, float]:
    values = np.concatenate([image.ravel() for image in images]).astype(float)
    return float(values.mean()), float(values.std())


def records_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_selectivity_of_every_image_and_encoder(
    organelles: tuple[Path, Path, dict[str, tuple[Pixels, NDArray[np.bool_]]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images, masks, made = organelles
    out = tmp_path / "new" / "out"
    call = ["features", "selectivity", *ENCODERS, "--images", str(images), "--labels", str(masks), "--out", str(out)]
    main([*call, "--name", "blob", "--drop-stages", "3"])
    norms = grey_norms([image for image, _ in made.values()])
    records = records_of(out / "selectivity.csv")
    assert [(each["encoder"], each["image"]) for each in records] == [
        ("a", "m0"), ("a", "m1"), ("b", "m0"), ("b", "m1")
    ]  # fmt: skip
    values = []
    for record in records:
        encoder = open_encoder("e", f"random:test_resnet:{'ab'.index(record['encoder'])}", norms)
        found = measure_selectivity(keep_resolution(encoder, 3), *made[record["image"]])
        assert float(record["iou"]) == pytest.approx(found.iou, abs=1e-3)
        assert float(record["response_r"]) == pytest.approx(found.response_correlation, abs=1e-4)
        assert float(record["best_r"]) == pytest.approx(np.nanmax(found.correlations), abs=1e-4)
        assert int(record["maps"]) == len(found.chosen) == 32
        values.append(float(record["iou"]))
    content = json.loads((out / "selectivity.json").read_text())
    assert content["settings"]["drop_stages"] == 3
    assert content["summary"]["b"]["iou"] == pytest.approx(np.mean(values[2:]))
    assert content["summary"]["b"]["iou_se"] == pytest.approx(abs(values[2] - values[3]) / 2)
    assert content["encoders"]["a"]["normalised_by"] == "the images"
    assert content["encoders"]["a"]["mean"] == pytest.approx([norms[0]])
    shown = capsys.readouterr().out
    assert f"{np.mean(values[:2]):.4f} ± {abs(values[0] - values[1]) / 2:.4f}" in shown
    assert Image.open(out / "selectivity.png").size[0] > 600


def test_many_images_fill_several_figures(tmp_path: Path) -> None:
    for index in range(7):
        image, mask = blobs(index)
        save(tmp_path / "i" / f"{index}.png", image)
        save(tmp_path / "m" / f"{index}.png", mask.astype(np.uint8))
    call = ["features", "selectivity", *ENCODERS[:2], "--images", str(tmp_path / "i"), "--labels", str(tmp_path / "m")]
    with undrawn():
        main([*call, "--out", str(tmp_path / "out")])
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["selectivity-1.png", "selectivity-2.png"]


@pytest.mark.parametrize("against", ["view", "copy"])
def test_occlusion_of_every_square(tmp_path: Path, against: str, capsys: pytest.CaptureFixture[str]) -> None:
    image, _ = blobs(0)
    save(tmp_path / "images" / "one.png", image)
    call = ["features", "occlusion", *ENCODERS, "--images", str(tmp_path / "images"), "--out", str(tmp_path / "out")]
    with undrawn() if against == "copy" else nullcontext():
        main([*call, "--against", against])
    content = json.loads((tmp_path / "out" / "occlusion.json").read_text())
    assert (content["settings"]["square_px"], content["settings"]["step_px"]) == (61, 30)
    assert content["settings"]["against"] == against
    mine = [record for record in records_of(tmp_path / "out" / "occlusion.csv") if record["encoder"] == "b"]
    assert [(int(each["y"]), int(each["x"])) for each in mine] == [(0, 0), (0, 30), (30, 0), (30, 30)]
    if against == "copy":
        encoder = open_encoder("e", "random:test_resnet:1", grey_norms([image]))
        wanted = measure_occlusion(encoder, image, image)
        np.testing.assert_allclose([float(each["drop"]) for each in mine], wanted.drops, atol=1e-5)
        assert content["summary"]["b"]["similarity"] == pytest.approx(1, abs=1e-6)
        # An image is as similar to itself as can be, and every occluded copy less so by its drop.
        np.testing.assert_allclose([float(each["similarity"]) for each in mine], 1 - wanted.drops, atol=1e-5)
    else:
        assert content["summary"]["b"]["similarity"] < 1
    assert (tmp_path / "out" / "occlusion.png").is_file()
    assert "largest drop" in capsys.readouterr().out


FIRING = ("--number", "10", "--noise-images", "12", "--size", "32")


def test_firing_rates_of_tiles_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Two images of 2 × 3 tiles, with a rest at the edges.
    images = textures(2, 3.0, 0)[:, :70, :100]
    for index, image in enumerate(images):
        save(tmp_path / "images" / f"{index}.png", image)
    call = ["features", "firing-rate", *ENCODERS[::2], "--images", str(tmp_path / "images")]
    main([*call, "--out", str(tmp_path / "out"), *FIRING, "--seed", "5"])
    content = json.loads((tmp_path / "out" / "firing-rate.json").read_text())
    names = content["settings"]["tiles"]
    assert len(set(names)) == 10
    tiles = []
    for name in names:
        index, _, place = name.partition(" at ")
        y, x = map(int, place.split(", "))
        tiles.append(images[int(index), y : y + 32, x : x + 32])
    encoder = open_encoder("e", "random:test_resnet:1", grey_norms(tiles))
    found = measure_firing(encoder, torch.tensor(np.stack(tiles))[:, None], 12, seed=5)
    assert content["summary"]["b"]["selective"] == found.selective
    records = [record for record in content["records"] if record["encoder"] == "b"]
    wanted = [point for curve in found.curves.values() for point in curve]
    assert [record["rate"] for record in records] == pytest.approx([point.mean for point in wanted])
    assert [record["se"] for record in records] == pytest.approx([point.se for point in wanted])
    assert {record["distortion"] for record in records} == {
        "rotation", "blur", "noise", "brightness", "contrast", "scale"
    }  # fmt: skip
    assert (tmp_path / "out" / "firing-rate.png").is_file()
    assert "mean firing rate of 10 tiles" in capsys.readouterr().out


def test_tiles_of_a_set_are_chosen_randomly(tmp_path: Path) -> None:
    made = make_tile_set(tmp_path / "set", {"coarse": 7, "fine": 6})
    everything = [f"{name} {index}" for name, tiles in made.items() for index in range(len(tiles) - 1)]
    with pytest.warns(UserWarning, match="has only 11 tiles of 160 × 160 px"):
        names, tiles = choose_tiles(str(tmp_path / "set"), 20, 160, seed=0, fewest=10)
    assert names == everything
    wanted = [tile[:160, :160] for name in made for tile in made[name][:-1]]
    np.testing.assert_array_equal(tiles, np.stack(wanted))
    some = {seed: choose_tiles(str(tmp_path / "set"), 5, 160, seed, 1) for seed in (1, 2)}
    assert len(set(some[1][0])) == 5
    assert some[1][0] != some[2][0]
    np.testing.assert_array_equal(some[1][1][2], wanted[everything.index(some[1][0][2])])


def failure(*words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["features", *words])
    return str(ended.value.code)


def test_encoders_are_named_apart_and_must_exist(tmp_path: Path) -> None:
    image, _ = blobs(0)
    save(tmp_path / "i" / "one.png", image)
    rest = ("--images", str(tmp_path / "i"), "--out", str(tmp_path / "out"))
    assert "give NAME=FILE" in failure("occlusion", "--encoders", "random:test_resnet:0", *rest)
    assert "give NAME=FILE" in failure("occlusion", "--encoders", "a=", *rest)
    twice = failure("occlusion", "--encoders", "a=random:test_resnet:0", "a=random:test_resnet:1", *rest)
    assert "a name twice: a, a" in twice
    assert "absent.pth: no such file" in failure("occlusion", "--encoders", f"a={tmp_path / 'absent.pth'}", *rest)
    other = {"state_dict": {"module.encoder_q.conv1.weight": torch.zeros(64, 1, 7, 7)}}
    torch.save(other, tmp_path / "other.pth")
    assert "is none of resnet18" in failure("occlusion", "--encoders", f"a={tmp_path / 'other.pth'}", *rest)
    assert not (tmp_path / "out").exists()


def test_bad_images_are_named(tmp_path: Path) -> None:
    def occlusion_of(folder: str) -> str:
        return failure("occlusion", *ENCODERS[:2], "--images", str(tmp_path / folder), "--out", str(tmp_path / "out"))

    (tmp_path / "empty").mkdir()
    save(tmp_path / "colour" / "red.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    save(tmp_path / "small" / "narrow.png", blobs(0, (60, 200))[0])
    save(tmp_path / "flat" / "flat.png", np.full((64, 64), 7, np.uint8))
    assert "does not exist" in occlusion_of("absent")
    assert "holds no PNG" in occlusion_of("empty")
    assert "red.png has real colour" in occlusion_of("colour")
    assert "narrow: an image of 60 × 200 px is smaller than the squares" in occlusion_of("small")
    assert "all pixels of the images have grey level 7" in occlusion_of("flat")
    rates = ("firing-rate", *ENCODERS[:2], "--images", str(tmp_path / "small"), "--out", str(tmp_path / "out"))
    assert "has 0 tiles of 224 × 224 px, but at least 10 are needed" in failure(*rates)
    assert "--number 5" in failure(*rates, "--number", "5")


def test_bad_masks_are_named(tmp_path: Path) -> None:
    image, mask = blobs(0)
    for folder, label in (
        ("empty", np.zeros_like(image)),
        ("full", np.full_like(image, 255)),
        ("grey", image),
        ("other", mask[:-1].astype(np.uint8)),
    ):
        save(tmp_path / folder / "m.png", label)
    save(tmp_path / "i" / "m.png", image)
    save(tmp_path / "unmatched" / "m.png", mask.astype(np.uint8))
    save(tmp_path / "unmatched" / "n.png", mask.astype(np.uint8))
    for folder, message in (
        ("empty", "m.png is empty, so nothing can be correlated"),
        ("full", "m.png is full, so nothing can be correlated"),
        ("grey", "no mask of two values"),
        ("other", "sizes differ"),
        ("unmatched", "labels without an image"),
    ):
        words = ("selectivity", *ENCODERS[:2], "--images", str(tmp_path / "i"), "--labels", str(tmp_path / folder))
        assert message in failure(*words, "--out", str(tmp_path / "out"))
    words = ("selectivity", *ENCODERS[:2], "--images", str(tmp_path / "i"), "--labels", str(tmp_path / "i"))
    assert "--drop-stages 6" in failure(
        *words[:-1], str(tmp_path / "unmatched" / "m.png"), "--out", str(tmp_path / "out"), "--drop-stages", "6"
    )
