"""Run folders as `lightning fit` and `test` leave them, small and with known numbers."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

Row = dict[str, float]
KEYS = ("test/a", "test/b", "test/c", "test/d")


def score_row(f1: float, foreground: int = 1000, background: int = 3000) -> Row:
    """A row whose F1 is given, with numbers of pixels that sum to those of the truth."""
    tp = round(0.8 * foreground)
    row = {"membrane_f1": f1, "membrane_precision": f1, "membrane_recall": f1, "background_f1": 0.9, "v_rand": f1 / 2}
    return {**row, "membrane_f1_at_0.5": 0.1, "tp": tp, "fp": 100, "fn": foreground - tp, "tn": background - 100}


def write_scores(
    folder: Path, rows: Mapping[str, Mapping[str, float | None]], verb: str = "test", recall: bool = True
) -> None:
    threshold = [level / 255 for level in range(256)]
    curve = {"threshold": threshold, "mean_f1": [math.sin(math.pi * at) for at in threshold]}
    if recall:
        curve |= {"mean_recall": [1 - at for at in threshold], "mean_precision": [0.5 + at / 2 for at in threshold]}
    scores = {"label": "membrane", "threshold": 0.4, "criterion": "mean_f1 on validation tiles", "mosaics": rows}
    (folder / f"scores-{verb}.json").write_text(json.dumps({**scores, "f1_by_threshold": curve, "partial": {}}))


def write_errors(folder: Path, keys: Sequence[str], seed: int = 0, side: int = 96) -> None:
    """Pictures in which each layer has a grey of its own; image and truth do not depend on the seed."""
    layers = {"image": 90, "truth": 130, "probability": 170 + seed, "errors": 210 + seed}
    entries = []
    for number, key in enumerate(keys):
        name = key.replace("/", "__")
        (folder / name).mkdir(parents=True, exist_ok=True)
        files = {layer: f"{name}/{layer}.png" for layer in layers}
        parts = {layer: f"{name}/region-1-{layer}.png" for layer in layers}
        for layer, grey in layers.items():
            for file in (files[layer], parts[layer]):
                Image.fromarray(np.full((side, side), grey + number, np.uint8)).save(folder / file)
        break_ = {"centre_px": [5.5, 7.0], "box_px": [[5, 6], [7, 9]], "size_px": 4, "size_nm": 16.0, "length_nm": 44.0}
        entry: dict[str, Any] = {"key": key, "pixel_size_nm": [4, 4], "shape_px": [side * 2, side * 2], "section": None}
        entry |= {"scale": 0.5, "threshold": 0.4, "tolerance_nm": 10.0, "files": files}
        entry["pixels"] = {"tp": 800, "fp": 100, "fn": 200, "tn": 2900, "fp_within_tolerance": 60}
        entry["breaks"] = {"count": 1, "per_mm": 2.5, "worst": [break_]}
        entry["spurious"] = {"count": 0, "worst": []}
        entry["regions"] = [{"origin_px": [8, 16], "size_px": [32, 48], "error_px": 77, "files": parts}]
        entries.append(entry)
    (folder / "index.json").write_text(json.dumps({"mosaics": entries}))


def write_log(folder: Path, epochs: int = 5, start: float = 1.0) -> None:
    lines = ["epoch,step,train/loss_epoch,train/loss_step,val/f1,val/f1_se,val_tiles/f1,val_tiles/loss"]
    for epoch in range(epochs):
        loss = start / (epoch + 1)
        lines.append(f"{epoch},{10 * epoch + 4},,{loss},,,,")
        lines.append(f"{epoch},{10 * epoch + 9},,,{0.6 + 0.02 * epoch},0.01,{0.5 + 0.05 * epoch},{loss + 0.1}")
        lines.append(f"{epoch},{10 * epoch + 9},{loss},,,,,")
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


def write_settings(folder: Path, network: str = "LinkNet", data: str = "isbi2012.ISBI2012", lr: float = 5e-4) -> None:
    optimizer = {"class_path": "torch.optim.Adam", "init_args": {"lr": lr}}
    model = {"class_path": f"lightning_emseg.modules.x.{network}", "init_args": {"optimizer": optimizer}}
    settings = {"model": model, "data": {"class_path": f"data_modules.{data}", "init_args": {"store": "data/x.zarr"}}}
    (folder / "config.yaml").write_text("# pytorch_lightning==2.6.6\n" + yaml.safe_dump(settings))
    environment = {
        "started": "2026-01-02T03:04:05+00:00",
        "command": ["lightning", "fit"],
        "seed": "0",
        "git": {"commit": "0123456789abcdef0123", "changed": True},
        "packages": {"torch": "2.9.0", "numpy": "2.0.0"},
    }
    (folder / "environment.json").write_text(json.dumps(environment))


def write_attribution(folder: Path) -> None:
    (folder / "attribution").mkdir()
    header = "epoch,step,outcome,k,pixels,S_nm2,S_nm2_se,share,share_se,relative_completeness_error"
    rows = [f"{epoch},9,TP,0.01,5,{1000 * (epoch + 1)},50,0.01,0.001,0.02" for epoch in (0, 1)]
    rows += [row.replace("TP", "all") for row in rows]
    (folder / "attribution" / "summary-fit.csv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "attribution" / "fit.json").write_text(json.dumps({"steps": 50, "windows": [], "baseline": "noise"}))
    (folder / "figures").mkdir(exist_ok=True)
    for epoch in (0, 1):
        Image.new("RGB", (40, 20), (epoch, 9, 9)).save(folder / "figures" / f"attribution-epoch-000{epoch}.png")


def write_study(folder: Path, factor: float = 1.0) -> None:
    folder.mkdir()

    def area(outcome: str, threshold: float) -> dict[str, Any]:
        size = factor * 100 / threshold
        errors = {"area_se": 5.0, "share_se": 0.1, "completeness": 0.2}
        return {"outcome": outcome, "threshold": threshold, "pixels": 9, "area_nm2": size, "share": 0.01, **errors}

    kinds, thresholds = ("TP", "all"), (0.001, 0.01, 0.1, 1.0)
    curve = [area(kind, threshold) for kind in kinds for threshold in thresholds]
    found = {"summary": [area(kind, 0.01) for kind in kinds], "curve": curve, "method": {"steps": 50, "reach_px": None}}
    (folder / "summary.json").write_text(json.dumps(found))
    Image.new("RGB", (60, 30), (9, 99, 9)).save(folder / "panels.png")


def write_quality(folder: Path) -> None:
    folder.mkdir()
    header = "mosaic,level,filter,height_px,width_px,pixel_size_y_nm,pixel_size_x_nm"
    header += ",brenner_sum,brenner_per_pixel,brenner_ratio"
    levels = (("original", 8.0), ("1/2", 4.0))
    rows = [f"test/{name},{level},box,64,64,4,4,1,{value},{value / 8}" for name in "ab" for level, value in levels]
    (folder / "quality.csv").write_text("\n".join([header, *rows]) + "\n")


def write_run(folder: Path, f1: Sequence[float] = (0.8, 0.7, 0.9, 0.6), seed: int = 0, lr: float = 5e-4) -> Path:
    """A run that has everything a run can have."""
    folder.mkdir(parents=True)
    write_settings(folder, lr=lr)
    write_log(folder, start=1.0 + seed)
    write_scores(folder, {key: score_row(value) for key, value in zip(KEYS, f1, strict=False)})
    write_errors(folder / "errors-test", KEYS[: len(f1)], seed)
    write_attribution(folder)
    return folder
