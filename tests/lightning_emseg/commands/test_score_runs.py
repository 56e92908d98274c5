"""`lightning predict` followed by `emseg score` gives the scores of `lightning test`."""

import json
from pathlib import Path

import pytest

from lightning_emseg.callbacks import PredictionWriter, ScoreFiles
from lightning_emseg.commands import main
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import tiny
from tests.support.score_checks import run


@pytest.fixture(scope="module")
def tested(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder with ``scores-test.json`` and predictions ``p.zarr``, of a network that sees its whole tile."""
    folder = tmp_path_factory.mktemp("run")
    module = VanillaUNet(base_channels=2, depth=1, blend="gaussian")
    module.threshold.fill_(0.37)
    module.threshold_source = "mean_f1 on validation"
    callbacks = [PredictionWriter(str(folder / "p.zarr")), ScoreFiles()]
    trainer = tiny.quiet_trainer(folder, callbacks=callbacks)
    trainer.predict(module, tiny.data_of(tiny_store), return_predictions=False)
    trainer.save_checkpoint(folder / "last.ckpt", weights_only=True)
    tiny.quiet_trainer(folder, callbacks=callbacks).test(module, tiny.data_of(tiny_store), verbose=False)
    return folder


@pytest.mark.parametrize("threshold", ["", "run:{}", "run:{}/scores-test.json", "run:{}/last.ckpt"])
def test_scores_are_equal_to_the_bit(
    tested: Path, tiny_store: Path, capsys: pytest.CaptureFixture[str], threshold: str
) -> None:
    expected = json.loads((tested / "scores-test.json").read_text())
    option = ("--threshold", threshold.format(tested)) if threshold else ()
    scores = run(capsys, tested / "p.zarr", tiny_store, *option)
    for part in ("mosaics", "mean", "se", "f1_by_threshold", "threshold", "label"):
        assert scores[part] == expected[part]
    assert scores["criterion"].startswith(expected["criterion"])


def test_files_are_those_of_a_test(tested: Path, tiny_store: Path, tmp_path: Path) -> None:
    main(["score", str(tested / "p.zarr"), str(tiny_store), "--split", "test", "--out", str(tmp_path)])
    assert (tmp_path / "scores.csv").read_text() == (tested / "scores-test.csv").read_text()
    expected = json.loads((tested / "scores-test.json").read_text())
    assert expected.keys() <= json.loads((tmp_path / "scores.json").read_text()).keys()


def test_predicted_masks_score_as_their_probability(
    tested: Path, tiny_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_probability = run(capsys, tested / "p.zarr", tiny_store)
    by_mask = run(capsys, tested / "p.zarr", tiny_store, "--prediction-label", "membrane")
    assert by_mask["mean"]["membrane_f1"] == by_probability["mean"]["membrane_f1"]
