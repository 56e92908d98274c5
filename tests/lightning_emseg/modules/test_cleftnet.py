"""CleftNet: its maps, losses and queries, and a run from the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_modules.store import MosaicStore, read
from lightning_emseg import cli
from lightning_emseg.losses import CleftLoss, FocalDiceLoss, WeightedBCELoss
from lightning_emseg.modules.cleftnet import CleftNet
from lightning_emseg.modules.restore import restore
from lightning_emseg.modules.volume_baselines import ResUNet3D
from tests.support import tiny
from tests.support.volume_networks import PATCH, SMALL, data_of


def test_queries_for_other_patches_are_reported(volumes: Path, tmp_path: Path) -> None:
    trainer = tiny.quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    module = CleftNet(patch=(4, 32, 32), widths=(8, 8, 16, 24))
    with pytest.warns(UserWarning, match=r"made for patches of \(4, 32, 32\) .* pass --model\.patch \[8, 32, 32\]"):
        trainer.fit(module, data_of(volumes))


def test_first_map_is_what_is_predicted() -> None:
    module = CleftNet(**SMALL).eval()
    image = torch.randint(0, 256, (1, 1, *PATCH), dtype=torch.uint8)
    with torch.no_grad():
        logits = module(image)
        assert logits.shape == (1, 2, *PATCH)
        torch.testing.assert_close(module.probability(image), torch.sigmoid(logits[:, 0]))


def test_losses_fit_the_maps() -> None:
    assert isinstance(CleftNet(**SMALL).loss, CleftLoss)
    assert isinstance(CleftNet(maps=1, **SMALL).loss, WeightedBCELoss)
    assert isinstance(CleftNet(maps=1, loss=FocalDiceLoss(), **SMALL).loss, FocalDiceLoss)
    assert isinstance(ResUNet3D(**SMALL).loss, FocalDiceLoss)


@pytest.mark.slow
def test_fit_and_predict_from_the_command_line(volumes: Path, tmp_path: Path) -> None:
    model = ["--model", "CleftNet", "--model.patch", "[8,32,32]", "--model.widths", "[8,16]"]
    model += ["--model.voxel_nm", "[40,4,4]", "--model.loss", "CleftLoss"]
    data = ["--data", "Mosaic", "--data.store", str(volumes), "--data.patch_size", "[8,32,32]"]
    data += ["--data.patches_per_epoch", "4", "--data.batch_size", "2", "--data.overlap", "0.0"]
    run = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    run += ["--trainer.default_root_dir", str(tmp_path)]
    cli.main(["fit", *model, *data, *run])
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    found = restore(checkpoint)
    assert type(found) is CleftNet
    assert list(found.hparams["patch"]) == list(PATCH)
    out = tmp_path / "p.zarr"
    cli.main(["predict", *model, *data, *run, "--ckpt_path", str(checkpoint), "--writer.out", str(out)])
    predicted = MosaicStore(out).sample("test/m0")
    assert predicted.image.shape == (10, 40, 36)
    # The first tile lies in a corner of the volume and overlaps no other but by what is snapped to the border.
    volume = MosaicStore(volumes).sample("test/m0")
    corner = [slice(0, side) for side in (2, 8, 4)]
    image = torch.from_numpy(read(volume.image, [slice(0, side) for side in PATCH]))
    with torch.no_grad():
        expected = found.probability(image[None, None])[0].numpy()
    got = read(predicted.image, corner).astype(float)
    assert np.abs(got - 255 * expected[tuple(corner)]).max() <= 0.51
