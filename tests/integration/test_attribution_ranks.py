"""Attribution fields under one, two and five ranks: the same tables, whoever computed what."""

import json
from pathlib import Path

import pytest
import tiny
import yaml
from ranks import lightning

pytestmark = [pytest.mark.ddp, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranks")
    tiny.make_store(path / "s.zarr", {"train": ((80, 70),), "val": ((90, 80), (70, 66)), "test": ((70, 70),)})
    method = {"class_path": "IntegratedGradients", "init_args": {"steps": 3, "reach": 9}}
    # Seven exact fields and a few groups: ranks get unequal shares.
    fields = {"method": method, "per_outcome": 5, "windows": 2, "window": 64, "check": 7, "max_share": None}
    content = {
        "model": {"class_path": "VanillaUNet", "init_args": {"base_channels": 4, "depth": 2}},
        "data": {"class_path": "Mosaic", "init_args": {"store": str(path / "s.zarr"), "patch_size": 64}},
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks+": [{"class_path": "AttributionFields", "init_args": {**fields, "every_n_epochs": 1}}],
        },
    }
    content["data"]["init_args"] |= {"batch_size": 2, "patches_per_epoch": 4}  # type: ignore[index]
    (path / "e.yaml").write_text(yaml.safe_dump(content))
    return path


def test_ranks_make_the_table_of_one_process(folder: Path) -> None:
    # In a fit under DDP: gradients are taken of the network and not of the wrapper that would reduce them.
    lightning(folder, "fit", "fit", 2)
    assert (folder / "fit" / "attribution" / "points-fit.csv").is_file()
    best = ["--ckpt_path", str(folder / "fit" / "checkpoints" / "best.ckpt")]
    for ranks in (1, 2, 5):
        lightning(folder, "validate", f"v{ranks}", ranks, *best)
    one, two, five = (folder / f"v{ranks}" / "attribution" for ranks in (1, 2, 5))
    for name in ("points-validate.csv", "summary-validate.csv"):
        content = (one / name).read_text()
        assert len(content.splitlines()) >= 10
        assert (two / name).read_text() == content
        assert (five / name).read_text() == content
    errors = [json.loads((out / "validate.json").read_text())["fast_against_exact"] for out in (one, two, five)]
    assert errors[0] == errors[1] == errors[2]
    assert errors[0]["pixels"] == 7
