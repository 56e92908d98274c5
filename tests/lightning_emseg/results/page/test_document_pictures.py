"""Embedded pictures."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.errors import UserError
from lightning_emseg.results.page.document import LARGEST_PX, EmbeddedPicture, embed


def decoded(picture: EmbeddedPicture) -> Image.Image:
    head, _, code = picture.uri.partition(",")
    assert head.startswith("data:image/")
    return Image.open(io.BytesIO(base64.b64decode(code)))


def noise(path: Path, side: int, seed: int, channels: int = 3) -> Path:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, channels), np.uint8)).save(path)
    return path


def test_masks_stay_exactly_as_they_are(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (80, 50)).astype(np.uint8) * 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    album = embed([tmp_path / "mask.png"], 1)
    assert np.array_equal(np.asarray(decoded(album.pictures[tmp_path / "mask.png"]).convert("L")), mask)


def test_error_map_colours_stay_exact(tmp_path: Path) -> None:
    colours = np.array([(0, 158, 115), (230, 159, 0), (204, 121, 167), (255, 255, 255)], np.uint8)
    pixels = colours[np.random.default_rng(0).integers(0, 4, (60, 60))]
    Image.fromarray(pixels).quantize().save(tmp_path / "errors.png")
    picture = embed([tmp_path / "errors.png"], 1).pictures[tmp_path / "errors.png"]
    assert np.array_equal(np.asarray(decoded(picture).convert("RGB")), pixels)


def test_large_pictures_keep_their_proportions(tmp_path: Path) -> None:
    Image.new("RGB", (2 * LARGEST_PX, LARGEST_PX), (9, 99, 199)).save(tmp_path / "wide.png")
    picture = embed([tmp_path / "wide.png"], 1).pictures[tmp_path / "wide.png"]
    assert (picture.width, picture.height) == (LARGEST_PX, LARGEST_PX // 2) == decoded(picture).size


def test_size_limit_holds_for_all_pictures_together(tmp_path: Path) -> None:
    paths = [noise(tmp_path / f"{seed}.png", 300, seed) for seed in range(4)]
    free = embed(paths, 100)
    assert not free.is_reduced
    limit = free.size_mb / 3
    album = embed(paths, limit)
    assert album.size_mb <= limit
    assert album.is_reduced
    assert len(album.pictures) == 4
    assert album.size_mb == pytest.approx(sum(len(each.uri) for each in album.pictures.values()) / 1e6)


def test_impossible_size_limit_names_a_possible_one(tmp_path: Path) -> None:
    paths = [noise(tmp_path / "a.png", 300, 0)]
    with pytest.raises(UserError, match=r"--max-mb 0.001 is too little for 1 pictures: give at least"):
        embed(paths, 0.001)


def test_unreadable_pictures_are_noted(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no picture")
    album = embed([tmp_path / "broken.png", tmp_path / "missing.png"], 1)
    assert album.pictures == {}
    assert len(album.notes) == 2
    assert "broken.png" in album.notes[0]


def test_repeated_pictures_are_embedded_once(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.png", 20, 0)
    assert embed([path, path], 1).size_mb == embed([path], 1).size_mb
