"""From the challenge's files to a submission: convert, fit, validate, predict, export, score; as a user types it."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.metrics import f1_score, roc_auc_score

from data_modules.store import MosaicStore, read
from lightning_emseg import cli, commands
from tests.support import ROOT
from tests.support.cremi_predictions import NOTHING, VOXEL_NM, CleftsOfTheChallenge, Ids, Pixels, clefts_in, write_file

SHAPE = (24, 80, 96)


def volume(seed: int) -> tuple[Pixels, Ids]:
    """Dark, slightly slanting plates in noisy grey tissue, and their ids."""
    random = np.random.default_rng(seed)
    z, y, x = np.indices(SHAPE)
    clefts = np.full(SHAPE, NOTHING, np.uint64)
    for number in range(1, 15):
        middle = random.uniform((2, 12, 12), np.array(SHAPE) - (2, 12, 12))
        angle = random.uniform(0, np.pi)
        across = (y - middle[1]) * np.cos(angle) + (x - middle[2]) * np.sin(angle) + 0.5 * (z - middle[0])
        along = (x - middle[2]) * np.cos(angle) - (y - middle[1]) * np.sin(angle)
        clefts[(np.abs(across) < 2) & (np.abs(along) < 8) & (np.abs(z - middle[0]) < 3)] = number
    tissue = 160 + 25 * gaussian_filter(random.normal(size=SHAPE), (0, 1, 1)) / 0.28
    grey = np.where(clefts != NOTHING, 70, tissue) + random.normal(0, 8, SHAPE)
    return grey.clip(0, 255).astype(np.uint8), clefts


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet3d", "cleftnet"])
def test_a_challenge_from_its_files_to_a_submission(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    files, store, run, predicted = (tmp_path / part for part in ("files", "c.zarr", "run", "p.zarr"))
    files.mkdir()
    raw, clefts = volume(0)
    write_file(files / "sample_A_20160501.hdf", raw, clefts)
    hidden_raw, hidden = volume(1)
    write_file(files / "sample_A+_20160601.hdf", hidden_raw)
    convert = ["data", "convert", "cremi", "--root", str(files), "--out", str(store)]
    with pytest.warns(UserWarning, match="has no volumes/labels/neuron_ids"):
        commands.main([*convert, "--train", "A", "--test", "", "--predict", "A+"])

    files_of = ["cleftnet"] if name == "cleftnet" else ["cleftnet", name]
    config = [word for file in files_of for word in ("--config", str(ROOT / "experiments" / "cremi" / f"{file}.yaml"))]
    config += ["--data.store", str(store)]
    small = ["--model.patch", "[4, 32, 32]", "--data.patch_size", "[4, 32, 32]", "--model.widths", "[8, 8, 8, 8, 8]"]
    small += ["--data.batch_size", "4", "--data.patches_per_epoch", "40", "--data.num_workers", "0"]
    small += ["--data.split.init_args.train", "16", "--data.split.init_args.val", "8", "--data.overlap", "0.25"]
    small += ["--data.sampling.init_args.min_pixels", "50"]
    here = ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.strategy", "auto"]
    here += ["--trainer.precision", "32-true", "--trainer.enable_progress_bar", "false"]
    here += ["--model.optimizer.init_args.lr", "0.01", "--trainer.max_steps", "80"]
    cli.main(["fit", *config, *small, *here, "--trainer.default_root_dir", str(run)])
    resolved = ["--config", str(run / "config.yaml")]
    cli.main(["validate", *resolved])
    (row,) = json.loads((run / "scores-validate.json").read_text())["mosaics"].values()
    assert row["cleft_f1"] > 0.8
    assert row["cleft_roc_auc"] > 0.95
    assert row["cremi_score_nm"] < 40

    cli.main(["predict", *resolved, "--data.predict_split", "predict", "--writer.out", str(predicted)])
    commands.main(["export", "cremi", str(predicted), "--out", str(tmp_path / "submission")])
    submitted = clefts_in(tmp_path / "submission" / "sample_A+_20160601.hdf")
    truth, found = hidden != NOTHING, submitted != NOTHING
    assert f1_score(truth.ravel(), found.ravel()) > 0.7

    # The same volume with its labels, as the challenge's server has it, scored as its code does.
    (tmp_path / "server").mkdir()
    write_file(tmp_path / "server" / "sample_A+_20160601.hdf", hidden_raw, hidden)
    convert[convert.index(str(files))] = str(tmp_path / "server")
    convert[convert.index(str(store))] = str(tmp_path / "truth.zarr")
    with pytest.warns(UserWarning, match="has no volumes/labels/neuron_ids"):
        commands.main([*convert, "--train", "", "--test", "A+"])
    capsys.readouterr()
    about = ["--label", "cleft", "--official", "cremi", "--json"]
    commands.main(["score", str(predicted), str(tmp_path / "truth.zarr"), *about])
    (scores,) = json.loads(capsys.readouterr().out)["mosaics"].values()
    assert scores["cleft_f1"] == pytest.approx(f1_score(truth.ravel(), found.ravel()), abs=1e-12)
    theirs = CleftsOfTheChallenge(submitted, hidden)
    assert scores["cremi_adgt_nm"] == pytest.approx(theirs.false_positives().mean(), rel=1e-6)
    assert scores["cremi_adf_nm"] == pytest.approx(theirs.false_negatives().mean(), rel=1e-6)
    both = (scores["cremi_adgt_nm"] + scores["cremi_adf_nm"]) / 2
    assert scores["cremi_score_nm"] == pytest.approx(both, rel=1e-12)
    sample = MosaicStore(predicted).sample("predict/sample-A+")
    assert sample.pixel_size_nm == VOXEL_NM
    probability = read(sample.image, [slice(0, side) for side in SHAPE])
    assert scores["cleft_roc_auc"] == pytest.approx(roc_auc_score(truth.ravel(), probability.ravel()), abs=1e-9)
