"""Several classes from fit to report, on a store of three."""

import copy
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from data_modules.store import MosaicStore
from lightning_emseg.commands import main
from lightning_emseg.commands.leaderboard import leaderboard
from tests.support import class_runs
from tests.support.class_runs import NAMES, lightning
from tests.support.tiny import Pixels

pytestmark = pytest.mark.slow

SIZES: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "train/a": ((96, 100), (4.0, 4.0)),
    "train/b": ((70, 90), (4.0, 4.0)),
    "val/c": ((80, 70), (4.0, 4.0)),
    "test/d": ((101, 77), (4.0, 4.0)),
    # Smaller than a tile along Y.
    "test/e": ((25, 60), (4.0, 4.0)),
}
SCORERS: dict[str, Any] = {
    "f1": f1_score, "precision": precision_score, "recall": recall_score, "iou": jaccard_score
}  # fmt: skip


class Runs:
    """All verbs, run once; read only, please."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run, self.out = folder, folder / "run", folder / "p.zarr"
        self.truth = class_runs.make_store(folder / "s.zarr", SIZES)
        augment = {"class_path": "data_modules.augment.images.Augment"}
        self.config = class_runs.experiment(folder / "s.zarr", {"augment": augment, "full_validation_every": 1})
        # Weights as of Conrad and Narayan (2021), where rare classes would not be found within two epochs.
        loss = {"class_path": "lightning_emseg.losses.CrossEntropyLoss", "init_args": {"weights": [0.3, 1.0, 1.0]}}
        self.config["model"]["init_args"].update(blend="gaussian", loss=loss)
        lightning("fit", folder, self.config)
        lightning("validate", folder, self.config)
        lightning("test", folder, self.config)
        lightning("predict", folder, self.config, "--writer.out", str(self.out), "--writer.export", "png")

    def changed(self, part: str, **arguments: Any) -> dict[str, Any]:
        config = copy.deepcopy(self.config)
        config[part]["init_args"].update(arguments)
        return config

    def scores(self, verb: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run / f"scores-{verb}.json").read_text())
        return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("classes"))


def sklearn_row(chosen: Pixels, truth: Pixels) -> dict[str, float]:
    used = truth != 255
    row: dict[str, float] = {}
    for name, scorer in SCORERS.items():
        each = [float(scorer(truth[used] == value, chosen[used] == value, zero_division=1.0)) for value in range(3)]
        row |= {f"{of}_{name}": value for of, value in zip(NAMES, each, strict=True)}
        row[f"mean_{name}"] = float(np.mean(each[1:]))
    return row


def test_scores_of_every_class_are_logged(runs: Runs) -> None:
    with (runs.run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores = ("loss", "f1", "precision", "recall", "iou", "background_f1", "background_iou", "mito_iou", "golgi_iou")
    for name in [f"val_tiles/{score}" for score in scores] + ["val/f1", "val/iou", "val/mito_iou", "val/golgi_iou"]:
        values = [float(row[name]) for row in rows if row[name]]
        assert len(values) == 2, name
        assert np.isfinite(values).all()
    last = {name: float(value) for row in rows for name, value in row.items() if name.startswith("val") and value}
    assert last["val/iou"] == pytest.approx((last["val/mito_iou"] + last["val/golgi_iou"]) / 2)
    assert last["val/f1"] > 0.4, "trained to more than chance"
    assert "val_tiles/threshold" not in last


def test_scores_are_those_of_written_masks_by_sklearn(runs: Runs) -> None:
    scores = runs.scores("test")
    assert list(scores["mosaics"]) == ["test/d", "test/e"]
    for key, row in scores["mosaics"].items():
        mask = class_runs.predicted(runs.out, key)[1]
        expected = sklearn_row(mask, runs.truth[key][1])
        assert row == pytest.approx(expected, abs=1e-12)
    for column, mean in scores["mean"].items():
        assert mean == pytest.approx(np.mean([row[column] for row in scores["mosaics"].values()]))
    assert scores["threshold"] is None
    assert scores["label"] == "mean"
    assert scores["criterion"] == "the most probable class"
    assert set(runs.scores("validate")["mosaics"]) == {"val/c"}
    text = (runs.run / "scores-test.txt").read_text()
    assert "the most probable class" in text
    assert "nan" not in text


def test_predictions_are_stores_of_classes(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    for sample in MosaicStore(runs.out).samples("test"):
        assert list(sample.labels) == ["organelles"]
        info = sample.labels["organelles"].info
        assert info is not None
        assert info.kind == "classes"
        assert info.classes == dict(enumerate(NAMES))
        probability, mask = class_runs.predicted(runs.out, sample.key)
        assert probability.shape == mask.shape == SIZES[sample.key][0]
        assert info.counts == {value: int((mask == value).sum()) for value in np.unique(mask)}
        assert set(np.unique(mask)) == {0, 1, 2}
        # Above one half the background cannot be the most probable class, and the other way round of three: below.
        assert (mask[probability < 127] == 0).all()
        assert (probability[mask > 0] > 84).all()
        assert sample.provenance["hyperparameters"]["classes"] == list(NAMES)
    with pytest.raises(SystemExit) as ended:
        main(["data", "verify", str(runs.out)])
    assert ended.value.code == 0
    main(["data", "inspect", str(runs.out)])
    said = capsys.readouterr().out
    assert "sound" in said
    assert "mito" in said
    assert "golgi" in said


def test_predictions_can_be_learnt_from_as_labels(runs: Runs, tmp_path: Path) -> None:
    data = class_runs.experiment(runs.out, {"test_split": "test", "patch_size": 32})
    lightning("test", tmp_path, data, "--ckpt_path", str(runs.run / "checkpoints" / "best.ckpt"))
    assert set(json.loads((tmp_path / "run" / "scores-test.json").read_text())["mosaics"]) == {"test/d", "test/e"}


def test_pictures_of_masks_keep_the_values_of_classes(runs: Runs) -> None:
    for key in ("d", "e"):
        picture = np.asarray(Image.open(f"{runs.out}-png/test/{key}.png"))
        np.testing.assert_array_equal(picture, class_runs.predicted(runs.out, f"test/{key}")[1])


def test_overlays_are_drawn_and_error_maps_are_not(runs: Runs) -> None:
    figures = {path.name for path in (runs.run / "figures").iterdir()}
    assert figures == {"validation.png", "validate-val-c.png", "test-test-d.png", "test-test-e.png"}
    assert list(runs.run.glob("errors-*")) == []
    assert list(runs.run.glob("maps*")) == []
    picture = np.asarray(Image.open(runs.run / "figures" / "test-test-d.png").convert("RGB")).astype(int)
    # Grey of the image and the colours of two classes, orange and light blue, as they are mixed with grey.
    red_over_blue = picture[..., 0] - picture[..., 2]
    assert red_over_blue.max() > 100
    assert red_over_blue.min() < -60


def test_reports_and_leaderboards_show_classes(runs: Runs, tmp_path: Path) -> None:
    main(["report", str(runs.run), "--out", str(tmp_path / "page.html")])
    html = (tmp_path / "page.html").read_text()
    assert "the most probable class" in html
    assert "mito IoU" in html
    assert "threshold nan" not in html.lower()
    shutil.copytree(runs.run, tmp_path / "other")
    main(["report", str(runs.run), str(tmp_path / "other"), "--out", str(tmp_path / "two.html")])
    rows = tmp_path / "rows.yaml"
    rows.write_text("columns: {mean_iou: IoU}\nrows: [{experiment: c.yaml, data: C}]\n")
    table = leaderboard(rows, collect={"c.yaml": runs.run})
    # Read again from what it has written.
    assert leaderboard(rows) == table
    iou = json.loads((runs.run / "scores-test.json").read_text())["mean"]["mean_iou"]
    assert f"| `c.yaml` | C | {iou:.3f}" in table


@pytest.mark.parametrize("verb", ["fit", "test"])
@pytest.mark.parametrize(
    ("part", "names", "message"),
    [
        (
            "model",
            None,
            r"model\.classes are not given but the masks of (train|val|test)/. have \['background', 'mito'",
        ),
        ("data", None, "has classes .*say which are foreground"),
        (
            "data",
            ["background", "golgi", "mito"],
            r"model\.classes are \['background', 'mito', 'golgi'\] but the masks",
        ),
    ],
)
def test_network_and_data_agree_on_classes(
    runs: Runs, tmp_path: Path, verb: str, part: str, names: list[str] | None, message: str
) -> None:
    # Weights of the network that the configuration names.
    weights = [] if verb == "fit" else ["--ckpt_path", str(runs.run / "checkpoints" / "best.ckpt")]
    if part == "model" and verb != "fit":
        message = r"model\.classes|does not fit|other architecture|differ"
    with pytest.raises(SystemExit, match=message):
        lightning(verb, tmp_path, runs.changed(part, classes=names), *weights)


def test_classes_of_a_network_need_masks_of_classes(runs: Runs, tmp_path: Path) -> None:
    config = runs.changed("data", classes=None, foreground=["mito"])
    with pytest.raises(
        SystemExit, match=r"model\.classes are \['background', 'mito', 'golgi'\] .* have one foreground"
    ):
        lightning("fit", tmp_path, config)


def test_what_is_of_one_foreground_is_refused(runs: Runs, tmp_path: Path) -> None:
    best_threshold = {"class_path": "VRand", "init_args": {"max_over_thresholds": True}}
    with pytest.raises(SystemExit, match=r"model\.metrics: VRand with max_over_thresholds needs the probability"):
        lightning("fit", tmp_path, runs.changed("model", metrics=[best_threshold]))
    config = copy.deepcopy(runs.config)
    config["trainer"]["callbacks+"] = [{"class_path": "AttributionFields"}]
    with pytest.raises(SystemExit, match="AttributionFields supports binary models only"):
        lightning("fit", tmp_path, config)
    config = copy.deepcopy(runs.config)
    config["model"] = {"class_path": "CASENet", "init_args": {"classes": list(NAMES)}}
    with pytest.raises(SystemExit, match="CASENet has one map, of a membrane"):
        lightning("fit", tmp_path, config)
    of_run = ["--checkpoint", str(runs.run / "checkpoints" / "best.ckpt"), "--store", str(runs.folder / "s.zarr")]
    for label in ("organelles", "null"):
        words = ["attribute", *of_run, "--split", "test", "--out", str(tmp_path / "study"), "--label", label]
        with pytest.raises(SystemExit, match=r"attribution supports binary models only; .* has 3 classes"):
            main(words)


def test_prediction_of_other_classes_is_refused(runs: Runs) -> None:
    written = (runs.out / "test" / "d" / "zarr.json").stat().st_mtime_ns
    lightning("predict", runs.folder, runs.config, "--writer.out", str(runs.out))
    assert (runs.out / "test" / "d" / "zarr.json").stat().st_mtime_ns == written
    renamed = runs.changed("model", classes=["background", "golgi", "mito"])
    with pytest.raises(SystemExit, match="of another checkpoint, configuration or version"):
        lightning("predict", runs.folder, renamed, "--writer.out", str(runs.out))
