"""``emseg attribute``: which pixels a network's decisions rest on, over whole mosaics."""

import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import lazy_instance
from torch import nn

from data_modules.errors import UserError
from data_modules.store import MosaicStore, MosaicView
from lightning_emseg import __version__
from lightning_emseg.attribution.captum import Captum
from lightning_emseg.attribution.integrated_gradients import IntegratedGradients
from lightning_emseg.attribution.measurement import StudySetting
from lightning_emseg.attribution.method import AttributionMethod
from lightning_emseg.attribution.network import detached_copy, foreground_probability
from lightning_emseg.attribution.sampling import choose_grid_windows, choose_pixels, make_tiles
from lightning_emseg.attribution.study import (
    CURVE,
    CURVE_FILES,
    REPORT,
    read_study,
    run_study,
    write_curves,
    write_panel,
    write_tables,
)
from lightning_emseg.attribution.study_store import (
    FIELDS_STORE,
    PLAN_FILE,
    StudyPlan,
    earlier_plan,
    make_plan,
    write_plan,
)
from lightning_emseg.attribution.windows import (
    grid_steps,
    refuse_planes,
    refuse_sides,
    resized_sides,
    strides_of,
    window_sides,
)
from lightning_emseg.core import checkpoints
from lightning_emseg.core.tables import write_whole
from lightning_emseg.metrics.pixels import level_of
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.restore import restore

Sampling = Literal["stratified", "grid"]
METHODS = (Captum, IntegratedGradients)
"""Named on the command line without their module, as these are imported."""
# Lazy, as the command line otherwise takes no option of a method whose class was not named.
_DEFAULT: AttributionMethod = lazy_instance(IntegratedGradients)


def attribute(
    checkpoint: Path,
    store: str,
    split: str,
    out: Path,
    label: str | None = "membrane",
    samples: list[str] | None = None,
    method: AttributionMethod = _DEFAULT,
    sampling: Sampling = "stratified",
    points: int | None = 200,
    step: int = 10,
    windows: int | None = 16,
    window: int | list[int] = 512,
    overlap: float = 0.5,
    resize: int | list[int] | None = None,
    check: int = 8,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
) -> str:
    """Study attribution fields on whole mosaics: S_k by outcome, with its errors, curve, panel and all fields.

    A study that was cut short is continued by the same command, from the last finished window.

    Args:
        checkpoint: Checkpoint of a training run; also determines the architecture.
        store: Path or URL of the store.
        split: Split to study.
        out: Folder of the study.
        label: Truth that outcomes are judged by; null for none.
        samples: Names of the samples to study, e.g. '["15"]'; all of the split by default.
        method: IntegratedGradients with its options as --method.steps 50, or Captum with --method.method
            captum.attr.Saliency.
        sampling: stratified takes as many pixels of each outcome (TP, FP, FN, TN) at random places; grid every
            step-th pixel, as in the paper.
        points: Number of pixels over all windows; of a grid a random choice, null for all of it.
        step: Step of the grid, in px of the window after resizing; the paper has 10 on U-RISC and 8 on ISBI 2012. In
            volumes along Y and X, and across as many sections as are nearest to that distance in nm.
        windows: Number of windows, taken at random from a grid over all mosaics; null for all. A pixel
            that shares its window costs less than one that does not.
        window: Side of a window in px of the mosaic, in volumes no larger than the patch that the network is built for;
            or one value an axis.
        overlap: Share of a window that its neighbour covers too; a pixel belongs to the one that shows most around it.
            With 0 fields near the border of a window are cut there, as in the paper; with 0.5 no pixel is nearer to it
            than a quarter of the window, unless the mosaic ends there.
        resize: Side in px that windows, or the sections of volumes, are brought to, as the published code resizes to
            512; or one value an axis. This changes the effective nm/px, which is recorded.
        check: Pixels whose exact fields are computed too: they show how far fields reach, and the error of the fast
            ones. With 0, and no --method.reach, all fields are exact.
        seed: Random seed for windows, pixels and noise.
        device: auto, cpu, cuda or cuda:1.
        overwrite: Whether a finished study, or one with other settings, in the folder is replaced.

    Raises:
        UserError: if checkpoint, store, split, label or samples do not exist, the window does not fit the network,
            there is nothing to attribute, or the folder holds a study with other settings.
    """
    module = restore(checkpoint)
    # Before labels are looked at: theirs may be of classes too.
    if module.classes:
        raise UserError(f"attribution supports binary models only; {checkpoint} has {len(module.classes)} classes")
    views = _views(store, split, label, samples)
    axes = len(views[0].shape)
    refuse_planes(module.network_axes, axes)
    strides = strides_of(module.network, module.stride, axes)
    size = refuse_sides("window", window, window_sides(window, module.hparams, axes), axes)
    resized = None if resize is None else refuse_sides("resize", resize, resized_sides(resize, size), axes, strides)
    _check(module, overlap, sampling, points, step, windows)
    where = _device(device)
    network = detached_copy(module.network, float(module.grey_mean), float(module.grey_std)).to(where)
    bound, level = method.bind(network, strides), level_of(float(module.threshold))
    setting = StudySetting(views, method.baseline, CURVE, seed, resized)
    settings = {
        **_provenance(checkpoint, module, views, where),
        "threshold": level / 255,
        "label": label,
        "method": bound.record,
        **{"sampling": sampling, "points": points, "step": step if sampling == "grid" else None, "windows": windows},
        **{"window": size, "overlap": overlap, "resize": resized, "check": check, "seed": seed, "thresholds": CURVE},
    }
    plan = earlier_plan(out, settings, overwrite)
    if plan is not None and (out / REPORT).is_file() and not overwrite:
        return f"{(out / REPORT).read_text()}\nthe study in {out} was finished before: nothing was left to do"
    if plan is None or (out / REPORT).is_file():
        tiles = choose_grid_windows(
            make_tiles(views, size, overlap, strides, resized is not None), views, windows, seed
        )
        steps = grid_steps(step, views[0].pixel_size_nm, size, resized or size)
        chosen = choose_pixels(network, setting, tiles, level, where, points, steps if sampling == "grid" else None)
        if not chosen:
            raise UserError(f"no pixel of {split} can be attributed: all of them are ignored, or --step is too large")
        plan = make_plan(settings, chosen, check)
        _clear(out)
        write_plan(out, plan, views)
    run_study(plan, bound, setting, out, where)
    text = _publish(out, plan, setting, network if label is not None else None, where)
    write_whole(out / REPORT, f"{text}\n")
    return text


def _publish(out: Path, plan: StudyPlan, setting: StudySetting, network: nn.Module | None, device: torch.device) -> str:
    """Write tables and pictures; a panel needs a network and a label."""
    study = read_study(out)
    text = write_tables(out, study)
    files = [out / name for name in ("summary.csv", "points.csv", "summary.json", FIELDS_STORE)]
    first = plan.parts[0].chosen.place
    files += write_curves(out, study)
    if network is not None:
        probability = foreground_probability(network, setting.read(first), device)
        files.append(write_panel(out, study, setting.views[first.mosaic], probability))
    return "\n".join([text, ", ".join(map(str, files))])


def _views(store: str, split: str, label: str | None, samples: Sequence[str] | None) -> list[MosaicView]:
    found = MosaicStore(store).samples(split)
    names = [sample.name for sample in found]
    unknown = [name for name in samples or () if name not in names]
    if unknown:
        raise UserError(f"split {split} of {store} has no samples {unknown}; it has: {', '.join(names[:8])}")
    wanted = [sample for sample in found if samples is None or sample.name in samples]
    if label is not None and not any(sample.labels for sample in wanted):
        raise UserError(f"split {split} of {store} has no labels: pass --label null to attribute it without outcomes")
    views = [MosaicView.of(sample, label) for sample in wanted]
    if len({len(view.shape) for view in views}) > 1:
        raise UserError(f"split {split} of {store} holds images and volumes: choose either with --samples")
    return views


def _check(
    module: SegmentationMixin, overlap: float, sampling: Sampling, points: int | None, step: int, windows: int | None
) -> None:
    if module.in_channels != 1:
        raise UserError(f"the network takes {module.in_channels} channels, and mosaics have one: it cannot be studied")
    if not 0 <= overlap < 1:
        raise UserError(f"--overlap {overlap} has to be at least 0 and below 1")
    if points is None and sampling == "stratified":
        raise UserError("--sampling stratified needs a number of --points; for all pixels of a lattice take grid")
    for option, value in (("points", points), ("step", step), ("windows", windows)):
        if value is not None and value < 1:
            raise UserError(f"--{option} {value} has to be at least 1")


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} cannot be used here ({str(error).splitlines()[0]}): take cpu") from None


def _provenance(
    checkpoint: Path, module: SegmentationMixin, views: Sequence[MosaicView], device: torch.device
) -> dict[str, Any]:
    """Collect everything that the numbers depend on, the options aside."""
    return {
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": checkpoints.file_hash(checkpoint),
        "weights_sha256": checkpoints.weights_hash(module),
        "architecture": type(module).__name__,
        "hyperparameters": dict(module.hparams),
        "threshold_source": module.threshold_source,
        "samples": {
            view.key: {
                "image": view.image.path,
                "image_state": view.image.stamp,
                "label_state": view.mask and view.mask.stamp,
                "shape_px": view.shape,
                "pixel_size_nm": view.pixel_size_nm,
            }
            for view in views
        },
        "device": device.type,
        "versions": {
            "lightning-emseg": __version__,
            **{name: metadata.version(name) for name in ("torch", "captum")},
        },
    }


def _clear(out: Path) -> None:
    """Remove what an earlier study has left, and nothing else."""
    if (out / FIELDS_STORE).exists() and not (out / PLAN_FILE).exists():
        raise UserError(
            f"{out} is not an attribution study: it holds a {FIELDS_STORE} without a {PLAN_FILE}; choose another --out"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (REPORT, PLAN_FILE, "summary.json", "summary.csv", "points.csv", *CURVE_FILES, "panels.png"):
            (out / name).unlink(missing_ok=True)
        shutil.rmtree(out / FIELDS_STORE, ignore_errors=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be made ({error.strerror}): choose another folder") from error
