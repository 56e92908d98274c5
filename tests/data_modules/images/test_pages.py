"""Pages of files and folders, and their pairs."""

import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from data_modules.errors import UserError
from data_modules.images.pages import Page, find_images, find_images_below, pair
from tests.support.convert_checks import Pixels, object_mask, picture, save
from tests.support.volume_files import stack, write_mrc, write_nifti


def _read(path: Path, as_values: bool = False) -> Pixels:
    (page,) = find_images(str(path))
    assert page.shape() == page.read(as_values).shape
    return page.read(as_values)


def _remarks(path: Path) -> tuple[str, ...]:
    with find_images(str(path))[0].open() as image:
        return image.remarks


@pytest.mark.parametrize(
    ("name", "compression"), [("a.png", None), ("a.tif", None), ("a.tif", "lzw"), ("a.tiff", "zlib")]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossless_formats_give_the_pixels(
    tmp_path: Path, name: str, compression: str | None, dtype: type[np.generic]
) -> None:
    pixels = picture().astype(dtype) * (1 if dtype is np.uint8 else 200)
    pixels = pixels.astype(dtype)
    if name == "a.png":
        save(tmp_path / name, pixels)
    else:
        tifffile.imwrite(tmp_path / name, pixels, compression=compression, predictor=compression is not None)
    read = _read(tmp_path / name)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, pixels)


def test_jpeg_is_read(tmp_path: Path) -> None:
    pixels = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None], 48, axis=0)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(_read(tmp_path / "a.jpg").astype(int) - pixels).max() <= 4


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_one_bit_files_are_bool(tmp_path: Path, suffix: str) -> None:
    mask = object_mask()
    if suffix == ".png":
        Image.fromarray(mask).save(tmp_path / "a.png", bits=1)
    else:
        tifffile.imwrite(tmp_path / "a.tif", mask, photometric="minisblack")
    read = _read(tmp_path / f"a{suffix}")
    assert read.dtype == bool
    np.testing.assert_array_equal(read, mask)


@pytest.mark.parametrize("pixels", [object_mask(), picture()])
def test_white_is_zero_inverts_grey_not_ids(tmp_path: Path, pixels: Pixels) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    inverted = ~pixels if pixels.dtype == bool else 255 - pixels
    np.testing.assert_array_equal(_read(tmp_path / "a.tif"), inverted)
    np.testing.assert_array_equal(_read(tmp_path / "a.tif", as_values=True), pixels)
    assert "inverted" in _remarks(tmp_path / "a.tif")[0]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "planar.tif"])
def test_equal_channels_are_grey_and_recorded(tmp_path: Path, name: str) -> None:
    grey = picture()
    if name == "planar.tif":
        tifffile.imwrite(tmp_path / name, np.stack([grey] * 3), photometric="rgb", planarconfig="separate")
    else:
        save(tmp_path / name, np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(_read(tmp_path / name), grey)
    assert _remarks(tmp_path / name) == ("three equal colour channels: one kept",)


def test_sixteen_bit_colour_png_keeps_all_bits(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    grey = picture().astype(np.uint16) * 251
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.stack([grey] * 3, axis=-1)))
    np.testing.assert_array_equal(_read(tmp_path / "a.png"), grey)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_real_colour_is_refused(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"colour{suffix}", np.stack([picture(0), picture(1), picture(2)], axis=-1))
    with pytest.raises(UserError, match=rf"colour\{suffix}.*colour.*grey"):
        _read(path)


def test_alpha_has_to_be_opaque(tmp_path: Path) -> None:
    grey, alpha = picture(), np.full((40, 56), 255, np.uint8)
    np.testing.assert_array_equal(_read(save(tmp_path / "opaque.png", np.stack([grey, alpha], axis=-1))), grey)
    alpha[3, 3] = 254
    path = save(tmp_path / "clear.png", np.stack([grey] * 3 + [alpha], axis=-1))
    with pytest.raises(UserError, match=r"clear\.png.*not opaque"):
        _read(path)
    Image.fromarray(grey).save(tmp_path / "marked.png", transparency=int(grey[0, 0]))
    with pytest.raises(UserError, match=r"marked\.png.*transparent"):
        _read(tmp_path / "marked.png")


def test_grey_palettes_are_looked_up_coloured_ones_kept(tmp_path: Path) -> None:
    indices = picture() % 4
    greys = Image.fromarray(indices)
    greys.putpalette([0, 0, 0, 90, 90, 90, 180, 180, 180, 255, 255, 255])
    greys.save(tmp_path / "grey.png")
    np.testing.assert_array_equal(_read(tmp_path / "grey.png"), np.array([0, 90, 180, 255])[indices])
    colours = Image.fromarray(indices)
    colours.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    colours.save(tmp_path / "colour.png")
    np.testing.assert_array_equal(_read(tmp_path / "colour.png", as_values=True), indices)
    with pytest.raises(UserError, match=r"colour\.png has a palette"):
        _read(tmp_path / "colour.png")
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))[:, ::-1]
    tifffile.imwrite(tmp_path / "lut.tif", picture(), photometric="palette", colormap=ramp)
    np.testing.assert_array_equal(_read(tmp_path / "lut.tif"), 255 - picture())


def test_tiff_pages_but_not_thumbnails_are_samples(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "s.tif") as writer:
        for section in range(3):
            writer.write(picture(section), contiguous=False)
            writer.write(picture(section)[::4, ::4], subfiletype=1, contiguous=False)
    pages = find_images(str(tmp_path / "s.tif"))
    assert [page.name for page in pages] == ["s-000", "s-001", "s-002"]
    for number, page in enumerate(pages):
        np.testing.assert_array_equal(page.read(), picture(number))
    assert pages[1].record == {"source": "s.tif", "page": 1}


def test_hdf5_datasets_are_images_or_stacks(tmp_path: Path) -> None:
    stack = np.stack([picture(seed) for seed in range(3)])
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["volumes/raw"] = stack
        file["flat"] = stack[0]
        file["colour"] = stack.transpose(1, 2, 0)
    pages = find_images(f"{tmp_path}/v.h5:volumes/raw")
    assert [page.name for page in pages] == ["v-000", "v-001", "v-002"]
    assert pages[2].shape() == (40, 56)
    np.testing.assert_array_equal(pages[2].read(), stack[2])
    assert pages[2].record == {"source": "v.h5", "dataset": "volumes/raw", "page": 2}
    assert [page.name for page in find_images(f"{tmp_path}/v.h5:flat")] == ["v"]
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["raw"] = stack
        file["offset"] = np.arange(3.0)
    # The only image of a file needs no name.
    np.testing.assert_array_equal(find_images(f"{tmp_path}/one.h5")[1].read(), stack[1])
    for spec, message in [
        ("v.h5", "name one, as .*v.h5:NAME.*volumes/raw"),
        ("v.h5:no", "has no dataset"),
        ("v.h5:colour", "like colours"),
    ]:
        with pytest.raises(UserError, match=message):
            find_images(f"{tmp_path}/{spec}")


def test_folders_are_listed_in_natural_order(tmp_path: Path) -> None:
    for name in ("s10.png", "s2.tif", "S1.jpg", ".hidden.png"):
        save(tmp_path / name, picture())
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.warns(UserWarning, match="notes.txt"):
        pages = find_images(str(tmp_path))
    assert [page.source for page in pages] == ["S1.jpg", "s2.tif", "s10.png"]
    save(tmp_path / "below" / "x.png", picture())
    assert [page.source for page in find_images_below(tmp_path / "below", tmp_path)] == ["below/x.png"]


def test_what_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    save(tmp_path / "twice" / "a.png", picture())
    save(tmp_path / "twice" / "a.tif", picture())
    (tmp_path / "a.bmp").write_bytes(b"BM")
    for spec, message in [
        ("none", "does not exist"),
        ("empty", "holds no PNG"),
        ("twice", "one sample.*a.png, a.tif"),
        ("a.bmp", "a.bmp is not"),
    ]:
        with pytest.raises(UserError, match=message):
            find_images(str(tmp_path / spec))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_cut, _flip, lambda path: path.write_bytes(b""), lambda path: path.write_text("?")])
def test_damaged_png_is_an_error_that_names_it(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = save(tmp_path / "broken.png", picture())
    damage(path)
    with pytest.raises(UserError, match=r"broken\.png"):
        _read(path)


@pytest.mark.parametrize("name", ["broken.tif", "deflate.tif", "broken.jpg", "broken.h5"])
@pytest.mark.parametrize("keep", [0, 0.6])
def test_truncated_files_are_errors_that_name_them(tmp_path: Path, name: str, keep: float) -> None:
    path = tmp_path / name
    if name == "broken.h5":
        with h5py.File(path, "w") as file:
            file["raw"] = picture()
    elif name.endswith(".tif"):
        tifffile.imwrite(path, picture(), compression="zlib" if name == "deflate.tif" else None)
    else:
        save(path, picture())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(UserError, match=name):
        _read(path)


def test_pillow_pixel_limit_stops_nothing_and_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "large.png", picture())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(_read(path), picture())
    assert Image.MAX_IMAGE_PIXELS == 100


def _pages(*names: str) -> list[Page]:
    return [Page(name, Path(name), name, name) for name in names]


def _paired(images: list[str], labels: list[str]) -> list[str]:
    return [label.stem for label in pair(_pages(*images), _pages(*labels))]


def test_names_are_matched_by_their_differing_part() -> None:
    assert _paired(["a", "b"], ["b", "a"]) == ["a", "b"]
    assert _paired(["s9", "s10", "s11"], ["s11_mask", "s10_mask", "s9_mask"]) == ["s9_mask", "s10_mask", "s11_mask"]
    assert _paired(["raw_01", "raw_02"], ["02-labels", "01-labels"]) == ["01-labels", "02-labels"]
    assert _paired(["volume"], ["truth"]) == ["truth"]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (["a", "b", "c"], ["a", "b"], "images without a label: c"),
        (["a", "b"], ["a", "b", "c"], "labels without an image: c"),
        (["s1", "s2"], ["s3_mask", "s4_mask"], "images without a label: s1, s2"),
        (["s1", "s2"], ["s1_mask", "s02_mask"], "images without a label"),
    ],
)
def test_names_that_do_not_match_are_listed(images: list[str], labels: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _paired(images, labels)


def test_sections_of_volume_files_are_pages(tmp_path: Path) -> None:
    sections = stack(np.int16)
    write_mrc(tmp_path, sections)
    write_nifti(tmp_path, sections, "b.nii.gz")
    pages = find_images(str(tmp_path))
    assert [page.name for page in pages] == [f"{stem}-{number:03}" for stem in "ab" for number in range(5)]
    for page in pages:
        assert page.shape() == (12, 9)
        np.testing.assert_array_equal(page.read(), sections[page.number or 0])


def test_videos_are_left_out_of_folders(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture())
    (tmp_path / "b.mp4").write_bytes(b"frames")
    with pytest.warns(UserWarning, match=r"not read, since not PNG, JPEG, TIFF, HDF5 .*, MRC or NIfTI: b\.mp4"):
        assert [page.name for page in find_images(str(tmp_path))] == ["a"]
    with pytest.raises(UserError, match=r"b\.mp4 is not PNG"):
        find_images(str(tmp_path / "b.mp4"))
