"""Writing: nothing half-made is ever seen, nothing is replaced unasked, and many writers make what one makes."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.store import (
    Earlier,
    LabelInfo,
    MosaicStore,
    SampleWriter,
    arrays,
    clear_rest,
    find_earlier,
    shard_rows,
    verify,
)
from tests.support.store_checks import data_files, noise, read_all, stock, write_sample

BINARY = LabelInfo("binary")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_existing_sample_is_replaced_only_when_asked(tmp_path: Path) -> None:
    first, second = noise((20, 30), 1), noise((20, 30), 2)
    folder = write_sample(tmp_path / "s", first, {"old": (BINARY, first // 128)})
    before = contents(folder)
    with pytest.raises(UserError, match=rf"{folder} exists.*--overwrite"):
        write_sample(tmp_path / "s", second)
    assert contents(folder) == before
    write_sample(tmp_path / "s", second, overwrite=True)
    sample = MosaicStore(tmp_path / "s").sample("train/a")
    np.testing.assert_array_equal(read_all(sample.image), second)
    assert not sample.labels, "nothing of the old sample stays"
    assert contents(folder).keys() == {"zarr.json", "0/zarr.json", "0/c/0/0"}


def test_an_interrupted_write_keeps_the_old_sample(tmp_path: Path) -> None:
    old = noise((20, 30), 1)
    folder = write_sample(tmp_path / "s", old)
    before = contents(tmp_path / "s")

    def interrupted(name: str, overwrite: bool) -> None:
        with SampleWriter(tmp_path / "s", "train", name, (3000, 30), (4, 4), overwrite=overwrite) as sample:
            sample.add_label("m", BINARY)
            sample.image.write(noise((2500, 30)))
            raise KeyboardInterrupt

    for name in ("a", "b"):
        with pytest.raises(KeyboardInterrupt):
            interrupted(name, overwrite=True)
    assert contents(tmp_path / "s") == before
    assert [sample.key for sample in MosaicStore(tmp_path / "s").samples()] == ["train/a"]
    assert folder.exists()


def test_unfinished_samples_are_invisible_and_swept_away(tmp_path: Path) -> None:
    write_sample(tmp_path / "s", noise((4, 4)), key="train/a")
    dead = SampleWriter(tmp_path / "s", "train", "b", (3000, 30), (4, 4))
    dead.image.write(noise((2500, 30)))
    assert not dead.complete
    store = MosaicStore(tmp_path / "s")
    assert [sample.key for sample in store.samples()] == ["train/a"]
    assert verify(store) == []
    write_sample(tmp_path / "s", noise((6, 6)), key="train/b")
    assert store.sample("train/b").image.shape == (6, 6)
    assert [path.name for path in (tmp_path / "s/train").iterdir() if path.name.startswith(".")] == []


def test_missing_rows_prevent_a_sample(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"only 0 of 20 rows"),
        SampleWriter(tmp_path / "s", "train", "a", (20, 30), (4, 4)) as sample,
    ):
        sample.image.write(noise((19, 30)))
    sample = SampleWriter(tmp_path / "s", "train", "b", (20, 30), (4, 4))
    sample.add_label("m", BINARY)
    sample.image.write(noise((20, 30)))
    with pytest.raises(ValueError, match=r"only 0 of 20 rows"):
        sample.close()
    assert MosaicStore(tmp_path / "s").samples() == []


def test_bands_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    sample = SampleWriter(tmp_path / "s", "train", "a", (20, 30), (4, 4))
    with pytest.raises(ValueError, match=r"\(31,\) uint8 does not fit"):
        sample.image.write(noise((4, 31)))
    with pytest.raises(ValueError, match="uint16 does not fit"):
        sample.image.write(noise((4, 30), dtype=np.uint16))
    sample.image.write(noise((15, 30)))
    with pytest.raises(ValueError, match="21 rows do not fit an array that ends at row 20"):
        sample.image.write(noise((6, 30)))
    # An empty band is nothing, as the last piece of a source may be.
    sample.image.write(noise((0, 30)))
    sample.image.write(noise((5, 30)))
    sample.image.write(noise((0, 30)))
    assert sample.complete
    sample.close()


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "../a"])
def test_names_that_would_leave_the_store_are_refused(tmp_path: Path, name: str) -> None:
    for split, sample in ((name, "a"), ("train", name)):
        with pytest.raises(UserError, match="cannot name a split or sample"):
            SampleWriter(tmp_path / "s", split, sample, (4, 4), (1, 1))
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(("shape", "size"), [((4,), (1,)), ((4, 4), (1, 1, 1)), ((0, 4), (1, 1)), ((1,) * 4, (1,) * 4)])
def test_shapes_that_no_store_holds_are_refused(tmp_path: Path, shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"train/a: shape"):
        SampleWriter(tmp_path / "s", "train", "a", shape, size)


@pytest.mark.parametrize(("writers", "reverse"), [(2, False), (3, True)])
def test_several_writers_make_the_same_bytes_as_one(tmp_path: Path, writers: int, reverse: bool) -> None:
    image, mask = noise((4700, 60)), noise((4700, 60), top=2)
    provenance = {"source": "noise"}
    step = shard_rows(image.shape)
    assert step == 2048
    cuts = [0, *(step * number for number in range(1, writers)), 4700]
    shape, size = image.shape, (4.0, 4.0)
    with SampleWriter(tmp_path / "one", "train", "a", shape, size, provenance) as sample:
        label = sample.add_label("m", BINARY)
        sample.image.write(image)
        label.write(mask)

    parts = []
    for number in range(writers):
        rows = (cuts[number], cuts[number + 1])
        part = SampleWriter(tmp_path / "many", "train", "a", shape, size, provenance, rows=[rows], attach=number > 0)
        parts.append((part, part.add_label("m", BINARY), rows))
    order = list(reversed(parts)) if reverse else parts
    for part, label, (start, stop) in order:
        for first in range(start, stop, 700):
            part.image.write(image[first : min(first + 700, stop)])
            label.write(mask[first : min(first + 700, stop)])
        assert part.complete
    parts[0][0].close()
    one, many = contents(tmp_path / "one"), contents(tmp_path / "many")
    assert one.keys() == many.keys()
    for path in one:
        if path.endswith("zarr.json"):
            assert json.loads(one[path]) == json.loads(many[path]), path
        else:
            assert one[path] == many[path], path
    assert len(data_files(tmp_path / "many/train/a/0")) == 3


def test_writers_attached_later_store_empty_chunks_too(tmp_path: Path) -> None:
    zeros = np.zeros((2100, 20), np.uint8)
    first = SampleWriter(tmp_path / "s", "train", "a", zeros.shape, (1, 1), rows=[(0, 2048)])
    second = SampleWriter(tmp_path / "s", "train", "a", zeros.shape, (1, 1), rows=[(2048, 2100)], attach=True)
    second.image.write(zeros[2048:])
    first.image.write(zeros[:2048])
    first.close()
    assert len(data_files(tmp_path / "s/train/a/0")) == 2
    assert verify(MosaicStore(tmp_path / "s")) == []


def test_rows_that_would_share_a_shard_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row 1000 does not begin a shard"):
        SampleWriter(tmp_path / "s", "train", "a", (4700, 60), (1, 1), rows=[(1000, 4700)])
    with pytest.raises(ValueError, match="row 3000 does not end a shard"):
        SampleWriter(tmp_path / "s", "train", "a", (4700, 60), (1, 1), rows=[(0, 3000)])


def test_a_killed_replacement_keeps_both_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = noise((40, 50), seed=1), noise((40, 50), seed=2)
    write_sample(tmp_path / "s", old)
    rename = Path.rename

    def killed_before_the_new_one_is_in_place(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed_before_the_new_one_is_in_place)
    sample = SampleWriter(tmp_path / "s", "train", "a", old.shape, (4.0, 4.0), overwrite=True)
    sample.image.write(new)
    with pytest.raises(KeyboardInterrupt):
        sample.close()
    np.testing.assert_array_equal(stock(tmp_path / "s/train/.a.replaced/0"), old)
    np.testing.assert_array_equal(stock(tmp_path / "s/train/.a.partial/0"), new)


SHAPE = (4200, 2060)
"""Three rows of two shards, the last ones of a few pixels."""
IMAGE = noise(SHAPE)
BINARY_LABEL = LabelInfo("binary")


def begin(store: Path, **options: object) -> SampleWriter:
    return SampleWriter(store, "test", "a", SHAPE, (4, 4), {"by": "me"}, **options)  # type: ignore[arg-type]


def test_nothing_there_is_nothing(tmp_path: Path) -> None:
    assert find_earlier(tmp_path / "s" / "test" / "a", ["m"], SHAPE) is None


def test_rows_count_once_all_arrays_have_them(tmp_path: Path) -> None:
    target, image, mask = tmp_path / "s" / "test" / "a", IMAGE, noise(SHAPE, top=2)
    sample = begin(tmp_path / "s")
    label = sample.add_label("m", BINARY_LABEL)
    assert find_earlier(target, ["m"], SHAPE) is None
    sample.image.write(image[:4150])
    assert find_earlier(target, ["m"], SHAPE) is None
    assert find_earlier(target, [], SHAPE) == Earlier("partial", {"by": "me"}, ((0, 4096),))
    label.write(mask[:4000])
    assert find_earlier(target, ["m"], SHAPE) == Earlier("partial", {"by": "me"}, ((0, 2048),))

    rest = begin(tmp_path / "s", rows=[(2048, 4200)], resume=True)
    rest.image.write(image[2048:])
    rest.add_label("m", BINARY_LABEL).write(mask[2048:])
    rest.close()
    assert find_earlier(target, ["m"], SHAPE) == Earlier("finished", {"by": "me"}, ((0, 4200),))
    found = MosaicStore(tmp_path / "s").sample("test/a")
    np.testing.assert_array_equal(read_all(found.image), image)
    np.testing.assert_array_equal(read_all(found.label("m")), mask)


@pytest.mark.parametrize("damage", ["missing", "short", "flipped", "empty"])
def test_damaged_rows_do_not_count(tmp_path: Path, damage: str) -> None:
    sample = begin(tmp_path / "s")
    sample.image.write(IMAGE)
    shard = tmp_path / "s" / "test" / ".a.partial" / "0" / "c" / "1" / "1"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    cut = {"flipped": len(content), "short": -1}.get(damage, 0)
    shard.write_bytes(content[:cut])
    if damage == "missing":
        shard.unlink()
    earlier = find_earlier(tmp_path / "s" / "test" / "a", [], SHAPE)
    assert earlier is not None
    assert earlier.rows == ((0, 2048), (4096, 4200))


def test_separate_spans_are_written_in_order(tmp_path: Path) -> None:
    image = IMAGE
    first = begin(tmp_path / "s", rows=[(2048, 4096)])
    first.image.write(image[2048:4096])
    rest = begin(tmp_path / "s", rows=[(0, 2048), (4096, 4200)], resume=True)
    rest.image.write(image[:1000])
    rest.image.write(image[1000:2048])
    with pytest.raises(ValueError, match="do not fit"):
        rest.image.write(image[:1000])
    rest.image.write(image[4096:])
    assert rest.complete
    rest.close()
    np.testing.assert_array_equal(read_all(MosaicStore(tmp_path / "s").sample("test/a").image), image)


def test_temporary_files_are_swept_and_nothing_else(tmp_path: Path) -> None:
    sample = begin(tmp_path / "s")
    sample.image.write(IMAGE)
    target = tmp_path / "s" / "test" / "a"
    before = {path for path in (tmp_path / "s").rglob("*") if path.is_file()}
    for stray in ("s/zarr.12ab.partial", "s/test/zarr.12ab.partial", "s/test/.a.partial/0/c/1/0.12ab.partial"):
        (tmp_path / stray).write_bytes(b"half")
    (tmp_path / "s" / "test" / ".b.partial").mkdir()
    clear_rest(target, [], SHAPE, ((0, 4200),))
    assert {path for path in (tmp_path / "s").rglob("*") if path.is_file()} == before
    assert (tmp_path / "s" / "test" / ".b.partial").is_dir()
    clear_rest(target, [], SHAPE, ((0, 2048), (4096, 4200)))
    assert {
        path.relative_to(tmp_path / "s/test/.a.partial/0/c").as_posix() for path in before if "/c/" in str(path)
    } - {
        path.relative_to(tmp_path / "s/test/.a.partial/0/c").as_posix()
        for path in (tmp_path / "s").rglob("*")
        if path.is_file() and "/c/" in str(path)
    } == {"1/0", "1/1"}


def test_failures_of_the_file_system_are_told(tmp_path: Path) -> None:
    told = arrays.explain_write_failure(OSError(errno.ENOSPC, "No space left on device"), "s/test/a")
    assert "no room left while writing s/test/a" in told
    assert "run the command again" in told
    assert "cannot write s/test/a: " in arrays.explain_write_failure(
        PermissionError(errno.EACCES, "denied"), "s/test/a"
    )
    sample = begin(tmp_path / "s")
    # A file in place of the folder of shards, which not even root can write into.
    (tmp_path / "s" / "test" / ".a.partial" / "0" / "c").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*\.a\.partial"):
        sample.image.write(IMAGE)
