"""Run folders of transfer benchmarks with known scores, as `lightning fit` and `test` leave them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

CEM500K = "data/cem500k_mocov2_resnet50_200ep.pth.tar"


def write_run(
    folder: Path,
    iou: float | Mapping[str, Mapping[str, float | None]],
    *,
    seed: int = 42,
    store: str = "data/lucchi.zarr",
    label: str = "mitochondrion",
    weights: str | None = CEM500K,
    frozen: bool = True,
    steps: int = 10000,
    encoder: str = "resnet50",
    lr: float = 0.003,
) -> Path:
    """A run with an IoU at 0.5 of its one test mosaic, or with rows of scores by mosaic."""
    network: dict[str, Any] = {"encoder": encoder, "freeze_encoder": frozen, "start_from": None, "grey_mean": 127.5}
    network["optimizer"] = {"class_path": "torch.optim.AdamW", "init_args": {"lr": lr, "weight_decay": 0.1}}
    network |= {"encoder_weights": weights, "hypercolumns": False}
    config = {
        "seed_everything": seed,
        "trainer": {"max_steps": steps, "default_root_dir": str(folder), "max_epochs": -1},
        "model": {"class_path": "lightning_emseg.modules.unet.UNet", "init_args": network},
        "data": {"class_path": "data_modules.mosaic.Mosaic", "init_args": {"store": store, "label": label}},
    }
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("# pytorch_lightning==2.6.6\n" + yaml.safe_dump(config))
    (folder / "metrics.csv").write_text(f"epoch,step,train/loss_step\n0,0,1.0\n1,{steps - 1},0.5\n")
    write_scores(folder, {"test/a": {f"{label}_iou_at_0.5": iou}} if isinstance(iou, float) else iou)
    return folder


def write_scores(folder: Path, rows: Mapping[str, Mapping[str, float | None]], **more: Any) -> None:
    """Scores of whole mosaics; the IoU at the chosen threshold is there too, and must not be used."""
    full = {key: {"mitochondrion_iou": 0.99, **row} for key, row in rows.items()} if rows else {}
    scores = {"label": "x", "threshold": 0.4, "criterion": "mean_f1", "mosaics": full}
    scores |= {"f1_by_threshold": {}, "partial": {}, **more}
    (folder / "scores-test.json").write_text(json.dumps(scores))


def change_config(folder: Path, part: str, **settings: Any) -> None:
    """Overwrite settings of a section of ``config.yaml``, or those at the top."""
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    section = config[part] if part == "trainer" else config[part]["init_args"] if part else config
    section.update(settings)
    path.write_text(yaml.safe_dump(config))
