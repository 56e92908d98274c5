"""What an interrupted writer has left: only whole and sound rows of shards count."""

import errno
from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.store import Earlier, LabelInfo, MosaicStore, SampleWriter, arrays, clear_rest, find_earlier
from tests.support.store_checks import noise, read_all

SHAPE = (4200, 2060)
"""Three rows of two shards, the last ones of a few pixels."""
IMAGE = noise(SHAPE)
BINARY = LabelInfo("binary")


def begin(store: Path, **options: object) -> SampleWriter:
    return SampleWriter(store, "test", "a", SHAPE, (4, 4), {"by": "me"}, **options)  # type: ignore[arg-type]


def test_nothing_there_is_nothing(tmp_path: Path) -> None:
    assert find_earlier(tmp_path / "s" / "test" / "a", ["m"], SHAPE) is None


def test_rows_count_once_all_arrays_have_them(tmp_path: Path) -> None:
    target, image, mask = tmp_path / "s" / "test" / "a", IMAGE, noise(SHAPE, top=2)
    sample = begin(tmp_path / "s")
    label = sample.add_label("m", BINARY)
    assert find_earlier(target, ["m"], SHAPE) is None
    sample.image.write(image[:4150])
    assert find_earlier(target, ["m"], SHAPE) is None
    assert find_earlier(target, [], SHAPE) == Earlier("partial", {"by": "me"}, ((0, 4096),))
    label.write(mask[:4000])
    assert find_earlier(target, ["m"], SHAPE) == Earlier("partial", {"by": "me"}, ((0, 2048),))

    rest = begin(tmp_path / "s", rows=[(2048, 4200)], resume=True)
    rest.image.write(image[2048:])
    rest.add_label("m", BINARY).write(mask[2048:])
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
    told = arrays.explain_failure(OSError(errno.ENOSPC, "No space left on device"), "s/test/a")
    assert "no room left while writing s/test/a" in told
    assert "run the command again" in told
    assert "cannot write s/test/a: " in arrays.explain_failure(PermissionError(errno.EACCES, "denied"), "s/test/a")
    sample = begin(tmp_path / "s")
    # A file in place of the folder of shards, which not even root can write into.
    (tmp_path / "s" / "test" / ".a.partial" / "0" / "c").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*\.a\.partial"):
        sample.image.write(IMAGE)
