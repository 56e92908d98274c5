"""Runs find their cells by what their own files say, with known means and errors."""

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.container import ErrorbarContainer
from PIL import Image

from data_modules.errors import UserError
from lightning_emseg.core.tables import MeanSE
from lightning_emseg.results.papers import PAPERS, read_paper_table
from lightning_emseg.results.transfer_table import RunGroup, TransferTable, collect_transfer_runs, iterations_figure
from tests.support.transfer_runs import CEM500K, change_config, write_run, write_scores

TABLE = read_paper_table(PAPERS, "table2")
LUCCHI = RunGroup("lucchi", 10000, "resnet50")


def collected(*folders: Path) -> TransferTable:
    return collect_transfer_runs(folders, TABLE)


def test_cell_is_mean_and_error_over_seeds(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(seed), iou, seed=seed) for seed, iou in ((42, 0.7), (0, 0.8), (1, 0.9))]
    found = collected(*folders)
    cell = found.cells[LUCCHI]["cem500k-moco"]
    assert cell.scores == {0: 0.8, 1: 0.9, 42: 0.7}
    # Standard deviation 0.1 over √3.
    assert cell.summary.mean == pytest.approx(0.8)
    assert cell.summary.n == 3
    assert cell.summary.se == pytest.approx(0.1 / math.sqrt(3))
    assert found.notes == []


def test_one_seed_has_no_error(tmp_path: Path) -> None:
    cell = collected(write_run(tmp_path / "a", 0.7)).cells[LUCCHI]["cem500k-moco"]
    assert (cell.summary.mean, cell.summary.se, cell.summary.n) == (0.7, None, 1)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"weights": None, "frozen": False}, "random-trained"),
        ({"weights": None, "frozen": True}, "random-frozen"),
        ({"weights": "imagenet", "frozen": True}, "imagenet"),
        ({"weights": "x/moco_v2_200ep_pretrain.pth.tar", "frozen": True}, "imagenet-moco"),
        ({"weights": CEM500K, "frozen": True}, "cem500k-moco"),
        ({"weights": "cem500k/encoder.pth", "frozen": True}, "encoder.pth, frozen"),
        ({"weights": CEM500K, "frozen": False}, "cem500k_mocov2_resnet50_200ep.pth.tar, trained"),
        ({"weights": "imagenet", "frozen": False}, "imagenet, trained"),
    ],
)
def test_the_initialisation_is_what_the_config_says(tmp_path: Path, given: dict[str, Any], name: str) -> None:
    found = collected(write_run(tmp_path / "random", 0.5, **given))
    assert list(found.cells[LUCCHI]) == [name]
    assert [each.name for each in found.columns[5:]] == ([name] if "," in name else [])


@pytest.mark.parametrize(
    ("store", "label", "name"),
    [
        ("data/lucchi.zarr", "mitochondrion", "lucchi"),
        ("s3://bucket/kasthuri.zarr/", "mitochondrion", "kasthuri"),
        ("/x/my-cremi.zarr", "cleft", "cremi"),
        ("perez-nuclei.zarr", "nucleus", "perez-nuclei"),
        ("perez.zarr", "lysosome", "perez-lysosomes"),
    ],
)
def test_the_benchmark_is_store_and_label(tmp_path: Path, store: str, label: str, name: str) -> None:
    row = {f"{label}_iou_at_0.5": 0.5, "labelled_objects_iou_at_0.5": 0.25}
    found = collected(write_run(tmp_path / "lucchi", {"test/a": row}, store=store, label=label))
    (cell,) = found.cells[RunGroup(name, 10000, "resnet50")].values()
    assert cell.scores == {42: 0.25 if name.startswith("perez") else 0.5}


def test_iterations_and_encoders_make_rows_of_their_own(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "a", 0.5, steps=100),
        write_run(tmp_path / "b", 0.6, steps=500),
        write_run(tmp_path / "c", 0.7, steps=500, encoder="resnet18"),
    ]
    assert sorted(collected(*folders).cells) == [
        RunGroup("lucchi", 100, "resnet50"),
        RunGroup("lucchi", 500, "resnet18"),
        RunGroup("lucchi", 500, "resnet50"),
    ]


def test_perez_is_the_mean_over_organelles_by_seed(tmp_path: Path) -> None:
    values = {"lysosome": 0.1, "mitochondrion": 0.3, "nucleus": 0.5, "nucleolus": 0.7}
    folders = [
        write_run(
            tmp_path / f"{label}{seed}",
            {"test/1": {"labelled_objects_iou_at_0.5": iou + 0.01 * seed}},
            store="perez.zarr",
            label=label,
            seed=seed,
            steps=2500,
        )
        for label, iou in values.items()
        for seed in (1, 2, 3)
        if (label, seed) != ("nucleus", 3)
    ]
    cell = collected(*folders).cells[RunGroup("perez", 2500, "resnet50")]["cem500k-moco"]
    # Seed 3 lacks an organelle.
    assert cell.scores == {1: pytest.approx(0.41), 2: pytest.approx(0.42)}
    assert RunGroup("perez", 2500, "resnet50") not in collected(*folders[:3]).cells


def test_a_mean_may_be_of_means(tmp_path: Path) -> None:
    content = yaml.safe_load(PAPERS.read_text())
    content["benchmarks"].append({"name": "both", "title": "Both", "parts": ["perez", "lucchi"]})
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump(content))
    row = {"test/1": {"labelled_objects_iou_at_0.5": 0.2}}
    labels = ("lysosome", "mitochondrion", "nucleus", "nucleolus")
    folders = [write_run(tmp_path / label, row, store="perez.zarr", label=label) for label in labels]
    found = collect_transfer_runs(
        [*folders, write_run(tmp_path / "l", 0.8)], read_paper_table(tmp_path / "rows.yaml", "table2")
    )
    assert found.cells[RunGroup("both", 10000, "resnet50")]["cem500k-moco"].scores == {42: pytest.approx(0.5)}


def test_all_mitochondria_counts_its_sources_alike(tmp_path: Path) -> None:
    column, labelled = "mitochondrion_iou_at_0.5", "labelled_objects_iou_at_0.5"
    rows = {f"test/perez-{n}": {column: 0.0, labelled: 0.5} for n in range(7)}
    rows |= {"test/guay": {column: 0.1}, "test/urocell-fib1-0-0-0": {column: 0.2}, "test/lucchi": {column: 0.3}}
    folder = write_run(tmp_path / "a", {**rows, "test/kasthuri": {column: 0.9}}, store="all-mitochondria.zarr")
    cell = collected(folder).cells[RunGroup("all-mitochondria", 10000, "resnet50")]["cem500k-moco"]
    assert cell.scores == {42: pytest.approx((0.5 + 0.1 + 0.2 + 0.3 + 0.9) / 5)}


def test_classes_count_by_mean_without_the_cell(tmp_path: Path) -> None:
    rows = {"test/a": {"mean_iou": 0.4}, "test/b": {"mean_iou": 0.6}}
    urocell = write_run(tmp_path / "u", rows, store="urocell.zarr", label="organelle")
    names = ["mitochondrion", "alpha granule", "canalicular vessel", "dense granule", "dense granule core"]
    classes = {f"{name}_iou": 0.1 * n for n, name in enumerate(names)}
    guay = write_run(
        tmp_path / "g",
        {"test/guay": {**classes, "cell_iou": 0.9, "mean_iou": 0.7}},
        store="guay.zarr",
        label="organelle",
    )
    cells = collected(urocell, guay).cells
    assert cells[RunGroup("urocell", 10000, "resnet50")]["cem500k-moco"].scores == {42: pytest.approx(0.5)}
    assert cells[RunGroup("guay", 10000, "resnet50")]["cem500k-moco"].scores == {42: pytest.approx(0.2)}


def unfinished(tmp_path: Path, why: str) -> Path:
    folder = write_run(tmp_path / "bad", 0.1, seed=1)
    if why == "has no scores-test.json":
        (folder / "scores-test.json").unlink()
    elif why == "has no config.yaml":
        (folder / "config.yaml").unlink()
    elif why == "is damaged":
        (folder / "scores-test.json").write_text("{")
    elif why == "cut short":
        write_scores(folder, {"test/a": {}}, partial={"test/b": {"pixels_seen": 3, "pixels": 9}})
    elif why == "ended after 600 of 10,000 steps":
        (folder / "metrics.csv").write_text("epoch,step\n0,599\n0,\n")
    elif why == "names no seed":
        change_config(folder, "", seed_everything=True)
    elif why == "second stage":
        change_config(folder, "model", start_from="x.ckpt")
    elif why == "has no encoder":
        change_config(folder, "model", encoder=None)
    elif why == "does not say what its encoder started from":
        config = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(config.replace("encoder_weights:", "weights:"))
    elif why == "none of the table's benchmarks":
        change_config(folder, "data", store="isbi2012.zarr")
    elif why == "names no store":
        change_config(folder, "data", store=None)
    elif why == "no column mitochondrion_iou_at_0.5":
        write_scores(folder, {"test/a": {"membrane_iou_at_0.5": 0.5}})
    return folder


@pytest.mark.parametrize(
    "why",
    [
        *(
            "has no scores-test.json",
            "has no config.yaml",
            "is damaged",
            "cut short",
            "ended after 600 of 10,000 steps",
        ),
        *("names no seed", "second stage", "has no encoder", "none of the table's benchmarks", "names no store"),
        "no column mitochondrion_iou_at_0.5",
        "does not say what its encoder started from",
    ],
)
def test_unusable_runs_are_left_out_and_told(tmp_path: Path, why: str) -> None:
    bad = unfinished(tmp_path, why)
    found = collected(write_run(tmp_path / "good", 0.7), bad)
    assert found.cells[LUCCHI]["cem500k-moco"].scores == {42: 0.7}
    (note,) = found.notes
    assert note.startswith(f"{bad} is left out: ")
    assert why in note
    with pytest.raises(UserError, match="none of the runs can be used"):
        collected(bad)


def test_a_run_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", 0.7)
    other = write_run(tmp_path / "b", 0.9, seed=1)
    found = collected(folder, other, tmp_path / "b" / ".." / "a")
    assert found.cells[LUCCHI]["cem500k-moco"].scores == {1: 0.9, 42: 0.7}


def test_two_runs_of_one_seed_are_refused(tmp_path: Path) -> None:
    first, same = write_run(tmp_path / "a", 0.7), write_run(tmp_path / "b", 0.7)
    with pytest.raises(UserError, match=r"a and .*b are runs of the same .* seed 42 \(their settings are the same\)"):
        collected(first, same)
    other = write_run(tmp_path / "c", 0.9, lr=0.1)
    with pytest.raises(
        UserError, match=r"runs differ in model\.init_args\.optimizer\.init_args\.lr: 0\.003 \(1\), 0\.1"
    ):
        collected(first, other)


def test_runs_of_a_row_that_differ_are_told(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(seed), 0.7, seed=seed, lr=0.003 if seed else 0.1) for seed in range(3)]
    folders.append(write_run(tmp_path / "random", 0.1, weights=None))
    (folders[1] / "config-test.yaml").write_text("ckpt_path: runs/x/checkpoints/best.ckpt\n")
    notes = collected(*folders).notes
    title = "Lucchi++, 10,000 iterations"
    assert notes == [
        f"{title}: runs differ in model.init_args.optimizer.init_args.lr: 0.003 (3), 0.1 (1)",
        f"{title}: runs differ in the tested checkpoint: best.ckpt (1), none (3)",
    ]


def test_folders_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        collected(tmp_path / "nowhere")


def test_rules_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    content = yaml.safe_load(PAPERS.read_text())
    content["benchmarks"].append({"name": "other", "title": "Other", "store": "*"})
    content["tables"]["table2"]["columns"].append({"name": "x", "title": "X", "weights": "c*", "frozen": True})
    rows = tmp_path / "rows.yaml"
    rows.write_text(yaml.safe_dump(content))
    table = read_paper_table(rows, "table2")
    with pytest.raises(UserError, match="could be of lucchi, other"):
        collect_transfer_runs([write_run(tmp_path / "a", 0.5)], table)
    with pytest.raises(UserError, match="could start from cem500k-moco, x"):
        collect_transfer_runs([write_run(tmp_path / "b", 0.5, store="new.zarr")], table)


MOCO: Mapping[int, MeanSE] = {10000: MeanSE(0.8, 0.02, 5), 100: MeanSE(0.4, 0.04, 5), 500: MeanSE(0.6, None, 1)}
RANDOM: Mapping[int, MeanSE] = {100: MeanSE(0.1, 0.01, 5), 10000: MeanSE(0.5, 0.05, 5)}
PANELS: Mapping[str, Mapping[str, Mapping[int, MeanSE]]] = {
    "Lucchi++": {"random": RANDOM, "MoCoV2": MOCO},
    "UroCell": {"MoCoV2": {500: MeanSE(0.3, 0.01, 5)}},
}


def drawn(container: object) -> list[list[float]]:
    assert isinstance(container, ErrorbarContainer)
    line = container.lines[0]
    assert line is not None
    points: list[list[float]] = np.asarray(line.get_xydata()).tolist()
    return points


def test_panels_show_iou_and_its_share() -> None:
    upper, _, lower, empty = iterations_figure(PANELS).axes
    assert [drawn(each) for each in upper.containers] == [
        [[100, 0.1], [10000, 0.5]],
        [[100, 0.4], [500, 0.6], [10000, 0.8]],
    ]
    np.testing.assert_allclose(drawn(lower.containers[0]), [[100, 20], [10000, 100]])
    np.testing.assert_allclose(drawn(lower.containers[1]), [[100, 50], [500, 75], [10000, 100]])
    # Of one number of iterations there is no share.
    assert not empty.containers
    assert upper.get_xscale() == "log"


def test_shares_refer_to_10000_iterations() -> None:
    long = {1000: MeanSE(0.3, None, 1), 10000: MeanSE(0.6, None, 1), 30000: MeanSE(0.9, None, 1)}
    late = {20000: MeanSE(0.5, None, 1), 30000: MeanSE(0.6, None, 1)}
    _, lower = iterations_figure({"Lucchi++": {"long": long, "late": late}}).axes
    np.testing.assert_allclose(drawn(lower.containers[0]), [[1000, 50], [10000, 100], [30000, 150]])
    np.testing.assert_allclose(drawn(lower.containers[1])[1], [30000, 100])


def test_tick_labels_do_not_overlap() -> None:
    steps = (100, 500, 1000, 2500, 5000, 10000, 30000)
    upper, _ = iterations_figure({"Lucchi++": {"a": {step: MeanSE(0.5, None, 1) for step in steps}}}).axes
    assert list(upper.get_xticks()) == [100, 1000, 5000, 30000]


def test_bars_are_standard_errors() -> None:
    upper, _, lower, _ = iterations_figure(PANELS).axes
    for axes, spans in ((upper, [0.08, 0.0, 0.04]), (lower, [10.0, 0.0, 5.0])):
        container = axes.containers[1]
        assert isinstance(container, ErrorbarContainer)
        segments = container.lines[2][0].get_segments()
        assert [float(np.ptp(np.asarray(each)[:, 1])) for each in segments] == pytest.approx(spans)


def test_initialisations_keep_their_colour() -> None:
    first, second, _, _ = iterations_figure(PANELS).axes
    colours = [each.lines[0].get_color() for axes in (first, second) for each in axes.containers]  # type: ignore[attr-defined]
    assert colours[1] == colours[2] != colours[0]


def test_plot_is_saved_and_needs_benchmarks() -> None:
    file = io.BytesIO()
    iterations_figure(PANELS).savefig(file, format="png")
    assert min(Image.open(file).size) > 500
    with pytest.raises(ValueError, match="no benchmarks"):
        iterations_figure({})
