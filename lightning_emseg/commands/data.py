"""``emseg data inspect``, ``emseg data verify`` and ``emseg data consolidate``."""

from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from data_modules.store import ArrayRef, MosaicStore, Sample, layout
from data_modules.store import verify as find_damage
from data_modules.store.layout import is_url
from data_modules.store.verify import pixels_to_verify
from data_modules.store.writer import consolidate as write_list


def inspect(store: str) -> str:
    """Show what a store holds: samples, shapes, pixel sizes, class fractions, chunks, files and bytes.

    Files and bytes are counted in folders only.

    Args:
        store: Path or URL of the store.

    Raises:
        UserError: if there is no store or a sample cannot be opened.
    """
    opened = MosaicStore(store)
    lines = [f"{store}"]
    for split in opened.splits:
        samples = opened.samples(split)
        lines.append(f"\n{split}: {len(samples)} samples")
        for sample in samples:
            lines += _describe(sample)
    lines.append(f"\n{_size(opened.path)}" if not is_url(opened.path) else "")
    return "\n".join(lines)


def _describe(sample: Sample) -> Iterator[str]:
    shape = " × ".join(f"{side:,}" for side in sample.image.shape)
    pixel = " × ".join(f"{size:g}" for size in sample.pixel_size_nm)
    chunk, shard = layout.chunk_and_shard(sample.image.shape)
    pieces = f"chunks {chunk} in shards {shard}" if sample.image.complete else "foreign store"
    size = "" if is_url(sample.image.path) else f", {_size(str(Path(sample.image.path).parent))}"
    yield f"  {sample.name}: {shape} px, {pixel} nm, {pieces}{size}"
    for name, label in sample.labels.items():
        yield f"    {name} ({label.info.kind if label.info else '?'}): {_fractions(label)}"


def _size(folder: str) -> str:
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:,.1f} MB"


def _fractions(label: ArrayRef) -> str:
    info = label.info
    if info is None or not info.counts:
        return f"{label.dtype}, values not counted"
    total = sum(info.counts.values())
    names = {0: "background", 1: "foreground"} if info.kind == "binary" else dict(info.classes)
    names[255] = "ignored"
    return ", ".join(f"{names.get(value, value)} {count / total:.2%}" for value, count in info.counts.items())


def verify(store: str) -> int:
    """Read every chunk of a store and name what is damaged or missing; exit status 1 if anything is.

    Args:
        store: Path or URL of the store.

    Raises:
        UserError: if there is no store.
    """
    opened = MosaicStore(store)
    with tqdm(total=pixels_to_verify(opened) / 1e6, desc="verify", unit="Mpx", disable=None) as bar:
        damages = find_damage(opened, lambda pixels: bar.update(pixels / 1e6))
    for damage in damages:
        print(damage.message)
    print(f"{store}: {len(damages)} damaged or missing pieces" if damages else f"{store}: sound")
    return 1 if damages else 0


def consolidate(store: str) -> str:
    """List all samples in the root of a store, so that it can be read over HTTP; run it again when samples are added.

    Args:
        store: Path of the store.

    Raises:
        UserError: if there is no store, or if it is a URL.
    """
    return f"{store}: {write_list(store)} samples listed in its zarr.json"
