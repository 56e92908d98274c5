"""The classifier of tiles: what is trained, that it learns, the score in its checkpoint, and the filter with it."""

import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from data_modules.errors import UserError
from data_modules.labelled_tiles import LabelledTiles
from data_modules.tile_set import TileSet
from data_modules.tiles import mirrored
from lightning_emseg.commands.curate_filter import filter_set
from lightning_emseg.modules.tile_classifier import TileClassifier
from tests.support import EXPERIMENTS, tiny
from tests.support.resolved import resolve
from tests.support.tile_sets import make_tile_set

ADAM = partial(torch.optim.Adam, lr=1e-3)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Coarse textures are called informative, fine ones not."""
    path = tmp_path_factory.mktemp("tiles") / "set"
    made = make_tile_set(path)
    names = {"coarse": "informative", "fine": "uninformative"}
    rows = [f"{source},{tile},{names[source]}" for source, tiles in made.items() for tile in range(len(tiles))]
    (path / "labels.csv").write_text("\n".join(["source,tile,label", *rows]) + "\n")
    return path


def classifier(encoder: str = "test_resnet", **changes: Any) -> TileClassifier:
    torch.manual_seed(0)
    return TileClassifier(encoder, **{"weights": None, "optimizer": ADAM, **changes})


def state(module: TileClassifier) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def trained(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], TileClassifier, Path]:
    """Weights before, the module after six epochs, and its checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    module = classifier()
    before = state(module)
    data = LabelledTiles(str(labelled), held_out=0.3, batch_size=6, seed=0)
    trainer = tiny.quiet_trainer(folder, max_epochs=6)
    trainer.fit(module, data)
    trainer.save_checkpoint(folder / "trained.ckpt")
    return before, module, folder / "trained.ckpt"


def test_last_stage_and_head_of_resnet34_are_trained() -> None:
    module = classifier("resnet34")
    count = {
        trained: sum(weight.numel() for weight in module.parameters() if weight.requires_grad == trained)
        for trained in (True, False)
    }
    # torchvision's: layer4 of ResNet-34 has 13,114,368 weights; a head of 512 and a bias; one channel of conv1's three.
    assert count == {True: 13_114_368 + 513, False: 21_797_672 - 513_000 - 13_114_368 - 2 * 64 * 49}
    module.train()
    assert [name for name, part in module.network.named_children() if part.training] == ["layer4", "fc"]


def test_last_stage_and_head_learn_textures(
    trained: tuple[dict[str, Tensor], TileClassifier, Path],
) -> None:
    before, module, _ = trained
    changed = {key.split(".")[1] for key, value in module.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"layer4", "fc"}
    assert module.auroc == 1
    assert module.scored_on == 8


def test_score_is_that_of_held_out_tiles(
    labelled: Path, trained: tuple[dict[str, Tensor], TileClassifier, Path]
) -> None:
    data = LabelledTiles(str(labelled), held_out=0.3, batch_size=3, seed=0)
    data.setup("fit")
    seen = [
        (source, tile)
        for batch in data.held_out_batches()
        for source, tile in zip(batch["mosaic"].tolist(), batch["origin"][:, 0].tolist(), strict=True)
    ]
    assert seen == [tuple(each) for each in data.split.held_out.tolist()]
    given = [
        (source, tile)
        for batch in data.train_dataloader()
        for source, tile in zip(batch["mosaic"].tolist(), batch["origin"][:, 0].tolist(), strict=True)
    ]
    assert len(set(given)) == len(given) == 18
    assert not set(given) & set(seen)


def test_the_filter_scores_tiles_as_the_network_does(
    labelled: Path, trained: tuple[dict[str, Tensor], TileClassifier, Path]
) -> None:
    _, module, checkpoint = trained
    said = filter_set(labelled, checkpoint=checkpoint, threshold=0.4, workers=1)
    assert "by the classifier (AUROC 1.000 on 8 held-out labels)" in said
    with (labelled / "filter.csv").open() as file:
        rows = list(csv.DictReader(file))
    tiles = [mirrored(source.tile(at)) for source in TileSet(labelled).sources() for at in range(len(source))]
    module.eval()
    with torch.no_grad():
        truth = torch.sigmoid(module(torch.from_numpy(np.stack(tiles)[:, None]))).numpy()
    assert [float(row["probability"]) for row in rows] == pytest.approx(truth.tolist(), abs=1e-4)
    assert all((row["kept"] == "1") == (float(row["probability"]) >= 0.4) for row in rows)


def adapted(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    first = next(key for key in weights if key.startswith("conv1") and weights[key].ndim == 4)
    return {**weights, first: weights[first].sum(dim=1, keepdim=True)}


def test_grey_tile_counts_as_in_three_channels(labelled: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    colour = timm.create_model("test_resnet", num_classes=1).eval()
    made: list[dict[str, Any]] = []

    def given(name: str, pretrained: bool = False, **options: Any) -> Any:
        made.append({"name": name, "pretrained": pretrained, **options})
        network = make(name.removesuffix(".tag"), **options)
        if pretrained:
            # What timm does with weights of three channels where one is asked for.
            network.load_state_dict(adapted(colour.state_dict()))
        return network

    make = timm.create_model
    monkeypatch.setattr(timm, "create_model", given)
    data = LabelledTiles(str(labelled), held_out=0.3, batch_size=6, seed=0)
    grey = classifier(weights="tag", optimizer=partial(torch.optim.SGD, lr=0.0))
    tiny.quiet_trainer(tmp_path).fit(grey, data)
    assert [each["pretrained"] for each in made] == [False, True]
    fetched, has = adapted(colour.state_dict()), grey.network.state_dict()
    assert all(torch.equal(has[key], value) for key, value in fetched.items() if not key.startswith(("layer4", "fc")))
    assert not torch.equal(has["fc.weight"], fetched["fc.weight"])
    image = torch.randint(0, 256, (2, 1, 64, 64), generator=torch.Generator().manual_seed(0))
    three = ((image / 255 - 0.449) / 0.226).repeat(1, 3, 1, 1)
    # The head is new, and the last stage has seen tiles in training: its batch norms have moved.
    grey.network.load_state_dict(adapted(colour.state_dict()))
    with torch.no_grad():
        assert torch.allclose(grey.eval()(image), colour(three)[:, 0], atol=1e-4)


def test_weights_that_cannot_be_fetched_are_a_message(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = timm.create_model

    def refuse(name: str, pretrained: bool = False, **options: Any) -> Any:
        if pretrained:
            raise ConnectionError("no route")
        return make(name, **options)

    monkeypatch.setattr(timm, "create_model", refuse)
    data = LabelledTiles(str(labelled), batch_size=6)
    with pytest.raises(UserError, match=r"weights test_resnet.tv_in1k cannot be fetched .*--model.weights null"):
        tiny.quiet_trainer(tmp_path).fit(classifier(weights="tv_in1k"), data)


def test_the_shipped_experiment_is_the_papers() -> None:
    config = resolve(EXPERIMENTS / "cem500k" / "filter.yaml")
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert (model["encoder"], model["weights"]) == ("resnet34", "tv_in1k")
    assert (model["optimizer"]["class_path"], model["optimizer"]["init_args"]["lr"]) == ("torch.optim.Adam", 1e-3)
    assert round(data["held_out"] * 14_000) == 2_000
    assert config["trainer"]["max_epochs"] == 30


def test_mistakes_are_named(labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.encoder 'resnet0'"):
        classifier("resnet0")
    with pytest.raises(UserError, match="choose a ResNet"):
        classifier("test_vit")
    with pytest.raises(UserError, match="fewer than a batch of 64"):
        LabelledTiles(str(labelled)).setup("fit")
    torch.save({"state_dict": {}, "emseg": {"architecture": "UNet"}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="is of UNet: give a checkpoint"):
        TileClassifier.from_checkpoint(tmp_path / "other.ckpt")
