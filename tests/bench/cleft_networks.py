"""CleftNet, its ablations and its baselines on the synapses of real sections, from files to table and picture.

``python tests/bench/cleft_networks.py ../shared/data --out runs/cleft-networks`` types what a user would type: `emseg
data convert volume`, `lightning fit|test` of every ``experiments/vnc_synapses/*.yaml`` and seed, `lightning predict` of
the first seed, `emseg leaderboard`. It takes about three hours of one core. What is finished is kept, so that the same
line goes on where it was interrupted. ``table.md`` has the leaderboard, ``networks.png`` the predictions; the results
of these experiments in ``experiments/leaderboard/clefts.json`` are replaced, as `emseg leaderboard` does.
"""

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.commands.leaderboard import leaderboard
from lightning_emseg.core.figures import PictureGrid, show_grey, show_heat
from tests.bench.steps import Steps
from tests.support import EXPERIMENTS

NETWORKS = {
    "segnet": "SegNet",
    "vnet": "V-Net",
    "unet3d": "3D U-Net",
    "resunet": "ResUnet",
    "attnunet": "AttnUnet",
    "cleftnet_no_fa": "CleftNet without FA",
    "cleftnet_no_la": "CleftNet without LA",
    "cleftnet_selfattention": "CleftNet, self-attention",
    "cleftnet": "CleftNet",
}
"""Names in the paper, in the order of its tables, by file."""
FOLDER = EXPERIMENTS / "vnc_synapses"
SECTIONS = {"train": "0-12", "test": "13-15"}
SIDE_PX = 448
"""Of the picture's crop."""


def convert(data: Path, store: Path, steps: Steps) -> None:
    """The store of the synapses."""
    stack = data / "vnc_sstem" / "stack1"
    files = ("--image", str(stack / "raw"), "--labels", str(stack / "synapses"))
    about = ("--label_name", "cleft", "--foreground", "bright", "--pixel_size_nm", "50,4.6,4.6", "--name", "stack1")
    for split, sections in SECTIONS.items():
        part = ("--sections", sections, "--split", split, "--out", str(store))
        steps.run(f"convert-{split}", "emseg", "data", "convert", "volume", *files, *about, *part)


def train(name: str, seed: int, store: Path, run: Path, steps: Steps) -> None:
    """Fit and test one network as its file says."""
    # All but CleftNet are changes to its file.
    configs = [
        word for each in dict.fromkeys(("cleftnet", name)) for word in ("--config", str(FOLDER / f"{each}.yaml"))
    ]
    quiet = ("--trainer.enable_progress_bar", "false")
    given = ("--seed_everything", str(seed), "--trainer.default_root_dir", str(run), "--data.store", str(store))
    steps.run(f"fit-{run.name}", "lightning", "fit", *configs, *given, *quiet)
    steps.run(f"test-{run.name}", "lightning", "test", "--config", str(run / "config.yaml"), *quiet)


def predict(run: Path, out: Path, steps: Steps) -> MosaicView:
    """Probability maps of the test sections, from the best checkpoint."""
    where = ("--writer.out", str(out), "--data.predict_split", "test", "--trainer.enable_progress_bar", "false")
    steps.run(f"predict-{run.name}", "lightning", "predict", "--config", str(run / "config.yaml"), *where)
    return only_test_sample(out, None)


def only_test_sample(store: Path, label: str | None) -> MosaicView:
    """The stack's last sections."""
    (sample,) = MosaicStore(store).samples("test")
    return MosaicView.of(sample, label)


def draw(store: Path, predictions: Sequence[MosaicView], names: Sequence[str], out: Path) -> None:
    """The image, and every network's probability over it, around the section's largest share of clefts."""
    truth = only_test_sample(store, "cleft")
    origin, size = most_foreground(truth.read_mask((0, 0, 0), truth.shape) == 1), (1, SIDE_PX, SIDE_PX)
    image, mask = truth.read_image(origin, size)[0], truth.read_mask(origin, size)[0] == 1
    columns = (len(predictions) + 2) // 2
    grid = PictureGrid([image.shape] * 2, columns)
    first, *others = [axes for row in grid.cells for axes in row]
    show_grey(first, image, "image and truth")
    _outline(first, mask)
    for axes, view, name in zip(others, predictions, names, strict=False):
        probability = view.read_image(origin, size)[0].astype(np.float32) / 255
        show_heat(axes, image, probability, 0.6, name)
        _outline(axes, mask)
    for axes in others[len(predictions) :]:
        axes.set_axis_off()
    grid.add_bar("probability of a cleft")
    grid.figure.savefig(out)


def _outline(axes: Axes, mask: NDArray[np.bool_]) -> None:
    axes.contour(mask, levels=[0.5], colors="white", linewidths=0.7)


def most_foreground(mask: NDArray[np.bool_]) -> tuple[int, int, int]:
    """First voxel ``(Z, Y, X)`` of the crop of :data:`SIDE_PX` with the most foreground, in steps of a quarter."""
    step = SIDE_PX // 4
    depth, height, width = mask.shape
    places = [
        (z, y, x)
        for z in range(depth)
        for y in range(0, height - SIDE_PX + 1, step)
        for x in range(0, width - SIDE_PX + 1, step)
    ]
    return max(places, key=lambda at: mask[at[0], at[1] : at[1] + SIDE_PX, at[2] : at[2] + SIDE_PX].sum())


def main() -> None:
    """Make the runs, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=Path("runs/cleft-networks"), help="folder of everything")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, one core each")
    parser.add_argument("--readme", type=Path, help="file whose table is replaced, as of `emseg leaderboard`")
    arguments = parser.parse_args()
    out, steps = arguments.out, Steps(arguments.out / "logs")
    store = out / "vnc-synapses.zarr"
    convert(arguments.data, store, steps)
    runs = {name: [out / f"{name}-{seed}" for seed in arguments.seeds] for name in NETWORKS}
    # The slowest of a seed come first, so that no core is left with one of them at the end.
    jobs = [(name, seed, runs[name][at]) for at, seed in enumerate(arguments.seeds) for name in reversed(NETWORKS)]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for done in [pool.submit(train, name, seed, store, run, steps) for name, seed, run in jobs]:
            done.result()
    views = [predict(each[0], out / f"{name}.zarr", steps) for name, each in runs.items()]
    draw(store, views, list(NETWORKS.values()), out / "networks.png")
    collected: dict[str, Path | list[Path]] = {f"vnc_synapses/{name}.yaml": each for name, each in runs.items()}
    rows = EXPERIMENTS / "leaderboard" / "clefts.yaml"
    table = leaderboard(rows=rows, collect=collected, readme=arguments.readme)
    (out / "table.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
