"""Predicted mosaics on disk: written in the background, continued after an interruption, never mixed up."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from PIL import Image
from tqdm import tqdm

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.store import (
    ArrayWriter,
    Earlier,
    LabelInfo,
    MosaicStore,
    MosaicView,
    Rows,
    SampleWriter,
    clear_rest,
    find_earlier,
    read,
)
from lightning_emseg.inference.stitching import StitchedRows

Provenance = Mapping[str, Any]
Role = Literal["owner", "guest"]


class PredictionStore:
    """Probability (``uint8``, as image) and mask (as label) of every mosaic, in the layout of the data stores.

    A sample is made in a hidden folder and appears when it is complete. What a killed run has left is continued when
    it was made with the same provenance, and refused otherwise.

    Args:
        out: Path of the store.
        mosaics: Mosaics to predict.
        label: Name of the mask: the foreground's, or the classes'.
        provenance: Everything that the prediction of each mosaic depends on; JSON-ready and the same in every run
            with the same settings.
        overwrite: Whether predictions with another provenance, and finished ones, are replaced.
        classes: Names of the values of masks, the background first; empty where masks are of one foreground. The
            probability is that of any class but the first.
    """

    def __init__(
        self,
        out: Path,
        mosaics: Sequence[MosaicView],
        label: str,
        provenance: Sequence[Provenance],
        overwrite: bool = False,
        classes: Sequence[str] = (),
    ) -> None:
        self._info = LabelInfo("classes", dict(enumerate(classes))) if classes else LabelInfo("binary")
        self._out, self._mosaics, self._label, self._overwrite = out, tuple(mosaics), label, overwrite
        self._provenance = [dict(record) for record in provenance]
        self._samples: dict[int, tuple[SampleWriter, ArrayWriter]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prediction-writer")
        self._writing: Future[None] | None = None

    @property
    def targets(self) -> list[Path]:
        """Folder of every finished sample."""
        return [self._out / mosaic.key for mosaic in self._mosaics]

    def survey(self) -> list[Earlier | None]:
        """What an earlier run has left of each mosaic to be continued; ``None`` where work begins anew.

        Raises:
            UserError: if a prediction is there that was made with other settings, naming those that differ.
        """
        found: list[Earlier | None] = []
        for target, mosaic, provenance in zip(self.targets, self._mosaics, self._provenance, strict=True):
            earlier = find_earlier(target, [self._label], mosaic.shape)
            is_same = earlier is not None and earlier.provenance == provenance
            if earlier is None or (self._overwrite and (earlier.state == "finished" or not is_same)):
                found.append(None)
            elif is_same:
                found.append(earlier)
            else:
                raise UserError(
                    f"{target} is {'an unfinished' if earlier.state == 'partial' else 'a'} prediction of another "
                    f"checkpoint, configuration or version ({differences(earlier.provenance, provenance)}): choose "
                    "another --writer.out, or pass --writer.overwrite true to replace it"
                )
        return found

    def begin(self, role: Role, earlier: Sequence[Earlier | None], mine: Mapping[int, Sequence[Rows]]) -> None:
        """Open what this process writes.

        Args:
            role: The ``owner`` makes the arrays of all mosaics; ``guest`` processes open them afterwards.
            earlier: Findings of :meth:`survey`.
            mine: Spans of rows of this process by mosaic.
        """
        for index, found in enumerate(earlier):
            if (found is not None and found.state == "finished") or (role == "guest" and index not in mine):
                continue
            mosaic, provenance = self._mosaics[index], self._provenance[index]
            if role == "owner":
                clear_rest(self.targets[index], [self._label], mosaic.shape, () if found is None else found.rows)
            split, name = mosaic.key.split("/")
            sample = SampleWriter(
                self._out,
                split,
                name,
                mosaic.shape,
                mosaic.pixel_size_nm,
                provenance,
                self._overwrite,
                mine.get(index, ()),
                attach=role == "guest",
                resume=found is not None,
            )
            label = sample.add_label(self._label, self._info, provenance=provenance)
            self._samples[index] = sample, label

    def write(self, rows: StitchedRows, level: int) -> None:
        """Write finished rows while the caller goes on; at most one band waits.

        Args:
            rows: Next rows of their mosaic's span.
            level: Lowest quantised probability that is foreground, where there is one foreground.

        Raises:
            UserError: if this or an earlier band could not be written.
        """
        self.wait()
        self._writing = self._thread.submit(self._write, rows, level)

    def _write(self, rows: StitchedRows, level: int) -> None:
        sample, label = self._samples[rows.mosaic]
        probability = rows.probability.numpy()
        mask = (probability >= level).astype(np.uint8) if rows.classes is None else rows.classes.numpy()
        if rows.invalid is not None:
            mask[rows.invalid.numpy()] = IGNORE
        sample.image.write(probability)
        label.write(mask)

    def wait(self) -> None:
        """Wait until everything is on disk, and raise what went wrong with it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    @property
    def complete(self) -> bool:
        """Whether this process has written all of its rows."""
        return all(sample.complete for sample, _ in self._samples.values())

    def finish(self) -> None:
        """Put the samples in their places; for the owner, once every process is complete."""
        for sample, _ in tqdm(self._samples.values(), desc="finish the store", unit="mosaic", disable=None):
            sample.close()

    def keep_for_later(self) -> bool:
        """Leave unfinished samples for the next run and remove those of which nothing is on disk yet.

        Returns:
            Whether any is left.
        """
        if self._writing is not None:
            self._writing.exception()
        kept = False
        for sample, _ in self._samples.values():
            kept |= sample.discard_if_empty()
        return kept


def differences(old: Provenance, new: Provenance) -> str:
    """What differs between two records, for a message.

    >>> differences({"blend": "cosine", "tile": [64, 64]}, {"blend": "gaussian", "tile": [64, 64]})
    "blend: 'cosine' there, 'gaussian' here"
    """
    if not old:
        return "nothing says how it was made"
    before, after = _flat(old), _flat(new)
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    told = [f"{key}: {before.get(key)!r} there, {after.get(key)!r} here" for key in changed[:4]]
    return "; ".join(told) + (f"; and {len(changed) - 4} more" if len(changed) > 4 else "")


def _flat(record: Provenance, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


Format = Literal["png", "tiff"]
Polarity = Literal["dark", "bright"]


def export_masks(samples: Sequence[Path], folder: Path, picture: Format, polarity: Polarity) -> Path:
    """Write the first label of each sample as an 8-bit picture, ``<folder>/<split>/<sample>.<format>``.

    Args:
        samples: Folders ``<store>/<split>/<sample>``.
        folder: Made where it does not exist; pictures in it are replaced.
        picture: File format; 3D masks become multi-page TIFF and cannot be PNG.
        polarity: ``dark`` writes foreground as 0 on 255, ``bright`` as 255 on 0; classes keep their values.

    Returns:
        ``folder``.
    """
    for path in tqdm(samples, desc=f"masks as {picture}", unit="mosaic", disable=None):
        split, name = path.parts[-2:]
        sample = MosaicStore(path.parents[1]).sample(f"{split}/{name}")
        label = next(iter(sample.labels.values()))
        pixels = read(label, [slice(0, side) for side in label.shape])
        if label.info is None or label.info.kind == "binary":
            pixels = np.where((pixels == 1) == (polarity == "bright"), 255, 0).astype(np.uint8)
        target = folder / split / f"{name}.{picture}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if picture == "tiff":
            tifffile.imwrite(target, pixels, compression="zlib")
        else:
            Image.fromarray(pixels).save(target)
    return folder
