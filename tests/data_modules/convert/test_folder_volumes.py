from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from data_modules.convert.folder import convert_volume
from data_modules.convert.labels import LabelRule
from data_modules.convert.samples import LabelSource, SampleSource, write_samples
from data_modules.errors import UserError
from data_modules.images.image import Image as LazyImage
from data_modules.images.image import Region
from data_modules.store import MosaicStore, verify
from tests.support.convert_checks import Pixels, attributes, pixel_size, provenance, real_data, save, stored

SHAPE = (37, 20, 28)
"""More sections than a slab has, and no two sides equal."""


def grey(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def mask(seed: int = 1) -> Pixels:
    return np.random.default_rng(seed).random(SHAPE) < 0.2


def sections(folder: Path, volume: Pixels) -> Path:
    for number, section in enumerate(volume):
        save(folder / f"s{number}.png", section)
    return folder


def as_folder(path: Path, volume: Pixels) -> str:
    return str(sections(path, volume))


def as_tiff(path: Path, volume: Pixels) -> str:
    tifffile.imwrite(path.with_suffix(".tif"), volume, photometric="minisblack")
    return str(path.with_suffix(".tif"))


def as_imagej_block(path: Path, volume: Pixels) -> str:
    tifffile.imwrite(path.with_suffix(".tif"), volume, imagej=True, metadata={"axes": "ZYX"})
    return str(path.with_suffix(".tif"))


def as_hdf5(path: Path, volume: Pixels) -> str:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["other/thing"] = np.zeros(3)
        file["volumes/it"] = volume
    return f"{path.with_suffix('.h5')}:volumes/it"


def as_nifti(path: Path, volume: Pixels) -> str:
    # NIfTI has X first; the library is told so, and nothing of ours turns it round.
    nibabel.Nifti1Image(volume.transpose(2, 1, 0), np.eye(4)).to_filename(f"{path}.nii.gz")
    return f"{path}.nii.gz"


@pytest.mark.parametrize("write", [as_folder, as_tiff, as_imagej_block, as_hdf5, as_nifti])
def test_every_format_gives_one_zyx_sample(tmp_path: Path, write: Any) -> None:
    image, labels = write(tmp_path / "image", grey()), write(tmp_path / "labels", mask().astype(np.uint8) * 255)
    out = tmp_path / "o.zarr"
    keys = convert_volume(image, out, "v", "50,4.6,4.5", "val", labels, "synapse", "bright")
    assert keys == ["val/v"]
    np.testing.assert_array_equal(stored(out, "val/v"), grey())
    np.testing.assert_array_equal(stored(out, "val/v", "synapse"), mask())
    assert pixel_size(out, "val/v") == [50.0, 4.6, 4.5]
    assert provenance(out, "val/v")["converter"] == "volume"
    assert provenance(out, "val/v", "synapse")["foreground"] == "bright"
    assert str(tmp_path) not in str(attributes(out, "val/v")) + str(attributes(out, "val/v", "synapse"))
    assert not verify(MosaicStore(out))


@pytest.mark.parametrize("write", [as_folder, as_hdf5])
def test_some_sections_make_a_volume_of_their_own(tmp_path: Path, write: Any) -> None:
    image, labels = write(tmp_path / "image", grey()), write(tmp_path / "labels", mask().astype(np.uint8) * 255)
    out = tmp_path / "o.zarr"
    about = {"pixel_size_nm": "50,4,4", "labels": labels, "label_name": "synapse", "foreground": "bright"}
    convert_volume(image, out, "v", **about, sections="1-3")
    np.testing.assert_array_equal(stored(out, "train/v"), grey()[1:4])
    np.testing.assert_array_equal(stored(out, "train/v", "synapse"), mask()[1:4])
    assert provenance(out, "train/v")["only_sections"] == [1, 3]
    for wrong, told in (("3", "give the first and the last"), ("2-99", "has the sections 0-"), ("3-1", "not 3-1")):
        with pytest.raises(UserError, match=told):
            convert_volume(image, out, "w", **about, sections=wrong)


def test_classes_and_ids_keep_their_values(tmp_path: Path) -> None:
    image = as_tiff(tmp_path / "image", grey())
    values = (grey(3) % 3).astype(np.uint16)
    values[30:] = 9
    convert_volume(
        image, tmp_path / "o.zarr", "c", "5,5,5", labels=as_tiff(tmp_path / "c", values), label_name="organelle",
        kind="classes", classes={0: "none", 1: "golgi", 2: "er"}, ignore_value=9,
    )  # fmt: skip
    np.testing.assert_array_equal(
        stored(tmp_path / "o.zarr", "train/c", "organelle"), np.where(values == 9, 255, values)
    )
    ids = grey(4).astype(np.uint64) * 2**33
    convert_volume(
        image, tmp_path / "o.zarr", "i", "5,5,5", labels=as_hdf5(tmp_path / "i", ids), label_name="cell",
        kind="instances",
    )  # fmt: skip
    np.testing.assert_array_equal(stored(tmp_path / "o.zarr", "train/i", "cell"), ids)


def test_masks_of_mixed_depth_have_one_threshold(tmp_path: Path) -> None:
    sections(tmp_path / "image", grey()[:4])
    one_bit, grey_levels = mask()[0], mask()[1].astype(np.uint8) * 255
    save(tmp_path / "labels" / "s0.png", one_bit)
    save(tmp_path / "labels" / "s1.png", grey_levels)
    # Noise: alone, a section of ones would be all object.
    save(tmp_path / "labels" / "s2.png", np.full(SHAPE[1:], 1, np.uint8))
    save(tmp_path / "labels" / "s3.png", np.full(SHAPE[1:], 3, np.uint8))
    out = tmp_path / "o.zarr"
    convert_volume(str(tmp_path / "image"), out, "v", "9,9,9", labels=str(tmp_path / "labels"), foreground="bright")
    nothing = np.zeros(SHAPE[1:])
    expected = np.stack([one_bit, grey_levels == 255, nothing, nothing])
    np.testing.assert_array_equal(stored(out, "train/v", "membrane"), expected)
    assert provenance(out, "train/v", "membrane")["threshold"] == 127.5


def test_1_bit_pages_are_classes_0_and_1(tmp_path: Path) -> None:
    sections(tmp_path / "image", grey()[:2])
    sections(tmp_path / "labels", mask()[:2])
    convert_volume(
        str(tmp_path / "image"), tmp_path / "o.zarr", "v", "9,9,9", labels=str(tmp_path / "labels"), kind="classes",
        classes={0: "none", 1: "cell"},
    )  # fmt: skip
    np.testing.assert_array_equal(stored(tmp_path / "o.zarr", "train/v", "membrane"), mask()[:2])


def test_stated_pixel_size_is_the_default(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "v.tif", grey(), imagej=True, resolution=(1 / 0.004, 1 / 0.004),
        metadata={"axes": "ZYX", "unit": "um", "spacing": 0.05},
    )  # fmt: skip
    convert_volume(str(tmp_path / "v.tif"), tmp_path / "o.zarr", "v")
    assert pixel_size(tmp_path / "o.zarr", "train/v") == pytest.approx([50, 4, 4])


def test_a_few_sections_are_read_at_once(tmp_path: Path) -> None:
    spans = []
    volume = grey(shape=(70, 20, 28)).astype(np.int16) - 100

    def read(region: Region) -> Pixels:
        spans.append(region[0].stop - region[0].start)
        return volume[region]

    @contextmanager
    def opened() -> Iterator[LazyImage]:
        yield LazyImage("v", "", (70, 20, 28), volume.dtype, read)

    label = LabelSource("cell", opened, LabelRule("binary", "bright", threshold=0))
    sample = SampleSource("train", "v", opened, (9.0, 4.0, 4.0), (label,))
    write_samples(tmp_path / "o.zarr", [sample], "test", "-100,155")
    assert max(spans) == 8
    np.testing.assert_array_equal(stored(tmp_path / "o.zarr", "train/v"), volume + 100)
    np.testing.assert_array_equal(stored(tmp_path / "o.zarr", "train/v", "cell"), volume > 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": "none"}, "none does not exist"),
        ({"image": "one.tif"}, "one section: convert it as a 2D image"),
        ({"image": "cut.tif"}, r"cut\.tif .*truncated"),
        ({"image": "v.nii"}, "(?s)v.nii cannot be read"),
        ({"pixel_size_nm": None}, "does not state its pixel size"),
        ({"pixel_size_nm": "4,4"}, "a volume needs Z,Y,X"),
        ({"pixel_size_nm": "0,4,4"}, "is no pixel size"),
        ({"labels": "short.tif"}, r"\(37, 20, 28\) px but its label .*short\.tif is \(36, 20, 28\)"),
        ({"labels": "v.tif"}, "no binary mask"),
        ({"labels": None}, "--foreground says how to read labels"),
        ({"label_name": ".m"}, "cannot name a label"),
        ({"grey": "bright"}, "--grey 'bright'"),
        ({"image": "folder", "labels": "other"}, r"images without a label: .*s0\.png"),
        ({"image": "ragged"}, "sections of a volume are of one size"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    as_tiff(Path("v"), grey())
    as_tiff(Path("m"), mask().astype(np.uint8))
    as_tiff(Path("short"), mask()[1:].astype(np.uint8))
    as_tiff(Path("one"), grey()[0])
    Path("cut.tif").write_bytes(Path("v.tif").read_bytes()[:-5000])
    Path("v.nii").write_bytes(b"no NIfTI at all" * 99)
    sections(Path("folder"), grey()[:2])
    for number in (8, 9):
        save(Path(f"other/t{number}.png"), mask()[0])
    save(Path("ragged/s0.png"), grey()[0])
    save(Path("ragged/s1.png"), grey()[0][1:])
    given = {"image": "v.tif", "labels": "m.tif", "pixel_size_nm": "9,4,4", "foreground": "bright", **arguments}
    with pytest.raises(UserError, match=message):
        convert_volume(out=Path("o.zarr"), name="v", **given)
    assert not Path("o.zarr/train/v").exists()


def test_an_existing_sample_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    image = as_tiff(tmp_path / "v", grey())
    convert_volume(image, tmp_path / "o.zarr", "v", "9,4,4")
    with pytest.raises(UserError, match=r"already has train/v.*--overwrite"):
        convert_volume(image, tmp_path / "o.zarr", "v", "9,4,4")
    as_tiff(tmp_path / "v", grey(7))
    convert_volume(image, tmp_path / "o.zarr", "v", "9,4,4", overwrite=True)
    np.testing.assert_array_equal(stored(tmp_path / "o.zarr", "train/v"), grey(7))


def test_a_mask_without_any_object_is_reported(tmp_path: Path) -> None:
    image = as_tiff(tmp_path / "v", grey())
    with pytest.warns(UserWarning, match=r"m\.tif is all background"):
        convert_volume(
            image, tmp_path / "o.zarr", "v", "9,4,4", labels=as_tiff(tmp_path / "m", np.zeros(SHAPE, np.uint8)),
            foreground="bright",
        )  # fmt: skip


def test_real_vnc_stack_as_a_volume(tmp_path: Path) -> None:
    root = real_data("vnc_sstem") / "stack1"
    out = tmp_path / "o.zarr"
    convert_volume(
        str(root / "raw"), out, "stack1", "50,4.6,4.6", labels=str(root / "mitochondria"),
        label_name="mitochondrion", foreground="bright", sections="6-8",
    )  # fmt: skip
    assert stored(out, "train/stack1").shape == (3, 1024, 1024)
    truth = np.asarray(Image.open(root / "mitochondria" / "07.png").convert("L")) > 127
    np.testing.assert_array_equal(stored(out, "train/stack1", "mitochondrion")[1], truth)
