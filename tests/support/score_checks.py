"""Images of known scores, and the command `emseg score` run on them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from lightning_emseg.commands import main

Pixels = NDArray[Any]


def images(count: int = 2, share: float = 0.2) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Probability and truth by name."""
    made = {}
    for index in range(count):
        random = np.random.default_rng(index)
        truth = random.random((40, 50 + index)) < share
        noise = random.random(truth.shape)
        made[f"s{index}"] = (np.rint(255 * (0.35 * truth + 0.62 * noise**2)).astype(np.uint8), truth)
    return made


def save(path: Path, pixels: Pixels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="minisblack")
    else:
        Image.fromarray(pixels).save(path)
    return path


def folders(folder: Path, suffix: str = "png") -> tuple[Path, Path]:
    """Folders of bright probabilities and of truths with dark membranes."""
    for name, (probability, truth) in images().items():
        save(folder / "p" / f"{name}.{suffix}", probability)
        save(folder / "t" / f"{name}.png", np.where(truth, 0, 255).astype(np.uint8))
    return folder / "p", folder / "t"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """What the command prints as JSON."""
    main(["score", *map(str, words), "--json"])
    return json.loads(capsys.readouterr().out)


def error(*words: object) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["score", *map(str, words)])
    return str(caught.value.code)


def expected(probability: Pixels, truth: Pixels, level: int) -> dict[str, float]:
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth.ravel(), (probability >= level).ravel(), zero_division=1.0
    )
    return {
        "membrane_f1": f1[1],
        "membrane_precision": precision[1],
        "membrane_recall": recall[1],
        "background_f1": f1[0],
        "membrane_average_precision": average_precision_score(truth.ravel(), probability.ravel()),
    }


def assert_scores(scores: Any, level: int, made: Any = None) -> None:
    made = made or images()
    rows = [expected(p, t, level) for p, t in made.values()]
    assert scores["threshold"] == pytest.approx(level / 255)
    for found, row in zip(scores["mosaics"].values(), rows, strict=True):
        for name, value in row.items():
            assert found[name] == pytest.approx(value, abs=1e-12)
    for name in rows[0]:
        values = [row[name] for row in rows]
        assert scores["mean"][name] == pytest.approx(np.mean(values), abs=1e-12)
        assert scores["se"][name] == pytest.approx(np.std(values, ddof=1) / np.sqrt(len(values)), abs=1e-12)
