"""CEM500K's whole chain on real micrographs, on one CPU core: curation, MoCoV2, and what its encoder is worth.

``python tests/bench/transfer_chain.py ../shared/data --out runs/transfer-chain`` types what a user would type: `emseg
curate tile|dedup|filter|pack`, `lightning fit` of MoCoV2, `emseg export encoder`, then transfers to mitochondria and to
membranes from that encoder and from random ones. It takes about two hours. What is finished is kept, so that the same
line goes on where it was interrupted. ``chain.json`` and ``chain.md`` have all figures, and how they were made.

No tile of a section that the transfers are tested on, and none of the test sections without labels of the same two
stacks, is pretrained on; their neighbours in the stack are.
"""

import argparse
import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lightning_emseg.core.tables import MeanSE, mean_se
from tests.bench.run import describe, machine
from tests.bench.steps import Steps
from tests.bench.transfer_chain_data import (
    MEMBRANES,
    TransferSet,
    label_probe,
    label_tiles,
    lay_out_mitochondria,
    lay_out_raw,
)
from tests.support import EXPERIMENTS

EXPERIMENTS = EXPERIMENTS / "cem500k"
SEEDS = (42, 43, 44, 45, 46)
SETS = (TransferSet("mitochondria", "mitochondrion"), TransferSet("membranes", "membrane"))
MOCO, FROZEN, TRAINED = "MoCoV2, frozen", "random, frozen", "random, trained"
STARTS: Mapping[str, tuple[str, ...]] = {
    MOCO: ("--model.encoder_weights", "ENCODER", "--model.freeze_encoder", "true"),
    FROZEN: ("--model.encoder_weights", "null", "--model.freeze_encoder", "true"),
    TRAINED: ("--model.encoder_weights", "null", "--model.freeze_encoder", "false"),
}
EPOCHS = 20
PRETRAINING = (
    *("--model.encoder", "resnet18", "--model.queue_size", "512", "--model.norm_groups", "4"),
    *("--model.momentum", "0.99", "--model.optimizer.init_args.lr", "0.01"),
    *("--model.lr_scheduler", "torch.optim.lr_scheduler.CosineAnnealingLR"),
    *("--model.lr_scheduler.init_args.T_max", str(EPOCHS), "--data.tables", "[]", "--data.held_out", "0.15"),
    *("--data.batch_size", "32", "--data.num_workers", "0", "--data.views.init_args.size", "96"),
    *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.strategy", "auto"),
    *("--trainer.max_epochs", str(EPOCHS), "--trainer.log_every_n_steps", "5"),
    *("--trainer.enable_progress_bar", "false"),
)


class Chain:
    """The steps, in a folder of their own.

    Args:
        data: Folder of the data sets, as ``shared/data``.
        out: Everything is written into it.
    """

    def __init__(self, data: Path, out: Path) -> None:
        self.data, self.out = data, out
        self.encoder = out / "encoder.pth"
        self._steps = Steps(out / "logs")

    def curate(self) -> None:
        """From files to the packed set of tiles."""
        raw, tiles = self.out / "raw", self.out / "tiles"
        if not (self.out / "sources.csv").is_file():
            lay_out_raw(self.data, raw, self.out / "sources.csv")
        stated = ("--sources", str(self.out / "sources.csv"))
        self._steps.run("tile", "emseg", "curate", "tile", str(raw), str(tiles), *stated, "--workers", "1")
        self._steps.run("dedup", "emseg", "curate", "dedup", str(tiles), "--workers", "1")
        label_tiles(self.data, tiles)
        forest = ("--forest", str(tiles / "labels.csv"))
        self._steps.run("filter", "emseg", "curate", "filter", str(tiles), *forest, "--workers", "1")
        self._steps.run("pack", "emseg", "curate", "pack", str(tiles), "--workers", "1")
        label_probe(self.packed, tiles, self.out / "probe.csv")

    @property
    def packed(self) -> Path:
        """The set that is pretrained on."""
        return self.out / "tiles-packed"

    def pretrain(self) -> None:
        """MoCoV2 with the shipped settings but for :data:`PRETRAINING`; goes on from the last epoch."""
        if self.encoder.is_file():
            return
        run = self.out / "moco"
        last = run / "checkpoints" / "last.ckpt"
        resume = ("--ckpt_path", str(last)) if last.is_file() else ()
        where = ("--data.tiles", str(self.packed), "--data.labels", str(self.out / "probe.csv"))
        folder = ("--trainer.default_root_dir", str(run))
        config = ("--config", str(EXPERIMENTS / "moco.yaml"))
        self._steps.run("moco", "lightning", "fit", *config, *PRETRAINING, *where, *folder, *resume)
        self._steps.run("export", "emseg", "export", "encoder", str(last), "--out", str(self.encoder))

    def convert(self) -> None:
        """Stores of the two sets, divided by section."""
        sections = (f"--{split}={sections}" for split, sections in MEMBRANES.items())
        membranes = ("--root", str(self.data / "isbi2012"), *sections)
        out = ("--out", str(self.store(SETS[1])), "--overwrite", "true")
        self._steps.run("membranes", "emseg", "data", "convert", "isbi2012", *membranes, *out)
        out = ("--out", str(self.store(SETS[0])), "--overwrite", "true")
        # The data set does not say what its pixels measure; nothing here depends on it.
        about = ("--label-name", "mitochondrion", "--foreground", "bright", "--pixel-size-nm", "1")
        for split, folder in lay_out_mitochondria(self.data, self.out / "mitochondria").items():
            images = ("--images", str(folder / "images"), "--labels", str(folder / "labels"), "--split", split)
            self._steps.run(f"mitochondria-{split}", "emseg", "data", "convert", "folder", *images, *about, *out)

    def store(self, of: TransferSet) -> Path:
        """Of a set."""
        return self.out / f"{of.name}.zarr"

    def transfer(self, of: TransferSet, start: str, seed: int) -> dict[str, float]:
        """Mean scores of one run on the whole test sections.

        Runs of a seed differ in the encoder's weights alone: they have the decoder's first weights, patches,
        augmentation and grey-value norms in common.
        """
        run = self.out / "runs" / f"{of.name}-{start.replace(', ', '-').lower()}-{seed}"
        scores = run / "scores-test.json"
        if not scores.is_file():
            mean, std = grey_norms(self.encoder)
            given = [word.replace("ENCODER", str(self.encoder)) for word in STARTS[start]]
            norms = ("--model.grey_mean", repr(mean), "--model.grey_std", repr(std))
            where = ("--data.store", str(self.store(of)), "--trainer.default_root_dir", str(run))
            quiet = ("--trainer.enable_progress_bar", "false")
            config = ("--config", str(EXPERIMENTS / f"transfer_cpu_{of.name}.yaml"), "--seed_everything", str(seed))
            self._steps.run(f"fit-{run.name}", "lightning", "fit", *config, *given, *norms, *where, *quiet)
            self._steps.run(f"test-{run.name}", "lightning", "test", "--config", str(run / "config.yaml"))
        found: dict[str, float] = json.loads(scores.read_text())["mean"]
        return found

    def about(self) -> dict[str, Any]:
        """Counts of the curation, and how pretraining began and ended; JSON-ready."""
        tile_rows = _rows(self.out / "tiles" / "tile.csv")
        filtering = json.loads((self.out / "tiles" / "filter.json").read_text())
        log = _rows(self.out / "moco" / "metrics.csv")
        return {
            "sources": sum(row["status"] == "tiled" for row in tile_rows),
            "refused": sum(row["status"] == "refused" for row in tile_rows),
            **{name: filtering[name] for name in ("tiles", "duplicates", "uniform", "uninformative", "kept")},
            "auroc": filtering["judge"]["auroc"],
            "stages": json.loads((self.packed / "card.json").read_text())["stages"],
            "pretraining": {
                name: [(int(row["step"]), float(row[name])) for row in log if row.get(name)]
                for name in ("train/loss_epoch", "train/told_apart", "val/knn", "val/linear")
            },
        }


def grey_norms(encoder: Path) -> tuple[float, float]:
    """Mean and standard deviation of the grey values 0–255 that an encoder was pretrained on."""
    norms = torch.load(encoder, weights_only=True)["norms"]
    return 255 * norms["mean"], 255 * norms["std"]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


Scores = Mapping[str, Mapping[str, Mapping[int, float]]]
"""IoU by set, start and seed."""


def table(scores: Scores) -> list[str]:
    """Markdown: mean ± SE over seeds, and of the differences of runs with the same seed."""
    lines = ["| IoU at 0.5 on the test sections | start | mean ± SE | seeds |", "|---|---|---|---|"]
    for name, starts in scores.items():
        for start, runs in starts.items():
            lines.append(f"| {name} | {start} | {mean_se(list(runs.values()))} | {len(runs)} |")
        for other in (FROZEN, TRAINED):
            if MOCO in starts and other in starts:
                found, number = difference(starts[MOCO], starts[other])
                lines.append(f"| {name} | {MOCO}, less {other} | {found} | {number} |")
    return lines


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[MeanSE, int]:
    """Mean ± SE of the differences over the seeds that both have, and the number of these.

    >>> str(difference({1: 0.5, 2: 0.75}, {1: 0.25, 2: 0.25, 3: 0.0})[0])
    '0.3750 ± 0.1250'
    """
    both = sorted(set(first) & set(second))
    return mean_se([first[seed] - second[seed] for seed in both]), len(both)


def main() -> None:
    """Make the chain, and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer-chain"), help="folder of everything")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of the transfers")
    arguments = parser.parse_args()
    chain = Chain(arguments.data, arguments.out)
    chain.curate()
    chain.pretrain()
    chain.convert()
    scores: dict[str, dict[str, dict[int, float]]] = {}
    for seed in arguments.seeds:
        for of in SETS:
            for start in STARTS:
                found = chain.transfer(of, start, seed)
                scores.setdefault(of.name, {}).setdefault(start, {})[seed] = found[f"{of.label}_iou_at_0.5"]
                write(arguments.out, chain.about(), scores)
    print("\n".join([*table(scores), "", describe(machine())]))


def write(out: Path, about: Mapping[str, Any], scores: Scores) -> None:
    """Write ``chain.json`` and ``chain.md``."""
    content = {"machine": machine(), "pretraining": PRETRAINING, **about, "iou_at_0.5": scores}
    (out / "chain.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    (out / "chain.md").write_text("\n".join([*table(scores), "", describe(machine())]) + "\n")


if __name__ == "__main__":
    main()
