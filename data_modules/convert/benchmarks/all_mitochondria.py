"""All Mitochondria (Conrad and Narayan 2021): the mitochondria of five benchmarks in one store."""

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_modules.batch import IGNORE
from data_modules.convert.samples import check_new
from data_modules.errors import UserError
from data_modules.store import ArrayRef, LabelInfo, MosaicStore, Sample, SampleWriter, read, shard_rows

LABEL = "mitochondrion"


def convert_all_mitochondria(
    guay: Path, perez: Path, urocell: Path, lucchi: Path, kasthuri: Path, out: Path, overwrite: bool = False
) -> list[str]:
    """Gather the mitochondria of five converted benchmarks in one store, as the binary label mitochondrion.

    Samples keep their splits, shapes and pixel sizes and are called after their benchmark. All other classes become
    background, ignored pixels stay ignored. CEM500K cuts its training images into crops of 256 px, so that benchmarks
    count by their area, and drops crops that are 95 % black: here, that is for the sampling of the run.

    Args:
        guay: Store of `emseg data convert guay`.
        perez: Store of `emseg data convert perez --organelle mitochondria`.
        urocell: Store of `emseg data convert urocell`.
        lucchi: Store of `emseg data convert lucchi`.
        kasthuri: Store of `emseg data convert kasthuri`.
        out: The store to write into, made where it does not exist.
        overwrite: Replace samples of the same name.

    Returns:
        ``<split>/<sample>`` of everything written.

    Raises:
        UserError: if a store is missing, damaged or has a sample without mitochondria; the message names it.
    """
    stores = {"guay": guay, "perez": perez, "urocell": urocell, "lucchi": lucchi, "kasthuri": kasthuri}
    copies = {}
    for benchmark, store in stores.items():
        samples = MosaicStore(store).samples()
        if not samples:
            raise UserError(f"--{benchmark} {store} has no samples: make it with `emseg data convert {benchmark}`")
        for sample in samples:
            name = sample.name if sample.name.startswith(benchmark) else f"{benchmark}-{sample.name}"
            copies[f"{sample.split}/{name}"] = (benchmark, name, sample, *_mitochondria(sample, store))
    check_new(out, list(copies), overwrite)
    for copy in tqdm(copies.values(), desc=f"convert to {out.name}", unit="sample", disable=None):
        _write(out, *copy, overwrite)
    return list(copies)


def _mitochondria(sample: Sample, store: Path) -> tuple[ArrayRef, tuple[int, ...]]:
    """The label with mitochondria and the values that are mitochondria in it."""
    for name, label in sample.labels.items():
        info = label.info
        if info is not None and info.kind == "binary" and name == LABEL:
            return label, (1,)
        if info is not None and info.kind == "classes" and LABEL in info.classes.values():
            return label, tuple(value for value, called in info.classes.items() if called == LABEL)
    known = ", ".join(sorted(sample.labels)) or "none"
    raise UserError(f"{store}: sample {sample.key} has no label or class {LABEL!r}; its labels are: {known}")


def _write(
    out: Path, benchmark: str, name: str, sample: Sample, label: ArrayRef, values: tuple[int, ...], overwrite: bool
) -> None:
    shape = sample.image.shape
    record: dict[str, Any] = {"benchmark": benchmark, "sample": sample.key}
    provenance = {**record, "converter": "all-mitochondria", "converted_from": dict(sample.provenance)}
    writer = SampleWriter(out, sample.split, name, shape, sample.pixel_size_nm, provenance, overwrite)
    with writer as target:
        rule = {"rule": "class mitochondrion is 1, 255 stays, all others 0", "values": list(values)}
        mask = target.add_label(LABEL, LabelInfo("binary"), np.uint8, {**record, **rule})
        for start in range(0, shape[0], shard_rows(shape)):
            rows = (slice(start, min(start + shard_rows(shape), shape[0])), *(slice(0, side) for side in shape[1:]))
            target.image.write(read(sample.image, rows))
            pixels = read(label, rows)
            mask.write(np.where(pixels == IGNORE, np.uint8(IGNORE), np.isin(pixels, values).astype(np.uint8)))
