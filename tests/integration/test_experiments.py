"""Every shipped YAML: resolved values against the papers, composition, and one step of each architecture."""

import re
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import yaml

from lightning_emseg import cli
from tests.support import EXPERIMENTS, ROOT, tiny
from tests.support.resolved import resolve

FOLDER = EXPERIMENTS
_NOT_RUN = {"with", "leaderboard", "sweeps", "start", "table.yaml"}
RUNNABLE = sorted(path for path in FOLDER.rglob("*.yaml") if not {path.parent.name, path.name} & _NOT_RUN)
SECOND = sorted((FOLDER / "with").glob("*.yaml"))
STARTS = sorted((FOLDER / "cem500k" / "start").glob("*.yaml"))


def documented(path: Path) -> list[Path]:
    """Files of the command that an experiment's own comment gives: itself, perhaps after another that it changes."""
    commands = re.findall(r"lightning fit((?: --config \S+)+)", path.read_text())
    found = [[ROOT / word for word in command.split()[1::2]] for command in commands]
    return next((files for files in found if files[-1] == path), [path])


def _name(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


# Shi et al. 2022, supplementary settings: class, encoder, learning rate, batch per GPU, GPUs, epochs, workers.
PAPER: dict[str, tuple[str, str, float, int, int, int, int]] = {
    "unet": ("UNet", "resnet50", 1e-3, 4, 4, 100, 16),
    "casenet": ("CASENet", "resnet152", 1e-7, 2, 4, 300, 16),
    "linknet": ("LinkNet", "resnet18", 5e-4, 1, 4, 300, 8),
    "unet_transfer": ("UNet", "resnet50", 2e-5, 4, 8, 50, 32),
}


# Conrad and Narayan 2021: iterations, side of a crop in px, label, classes.
TRANSFER = {
    "all_mitochondria": (10_000, 224, "mitochondrion", None),
    "cremi": (5_000, 512, "cleft", None),
    "guay": (1_000, 512, "organelle", 7),
    "kasthuri": (10_000, 512, "mitochondrion", None),
    "lucchi": (10_000, 512, "mitochondrion", None),
    "perez": (2_500, 480, "mitochondrion", None),
    "urocell": (2_500, 224, "organelle", 3),
}


@pytest.mark.parametrize("name", TRANSFER)
def test_transfer_settings_are_those_of_the_paper(name: str) -> None:
    iterations, crop, label, classes = TRANSFER[name]
    config = resolve(*documented(FOLDER / "cem500k" / f"{name}.yaml"))
    model, data, trainer = config["model"]["init_args"], config["data"]["init_args"], config["trainer"]
    assert (model["encoder"], model["freeze_encoder"], model["freeze_norms"]) == ("resnet50", True, False)
    assert config["seed_everything"] == 42
    assert model["optimizer"]["class_path"] == "torch.optim.AdamW"
    assert model["optimizer"]["init_args"]["weight_decay"] == 0.1
    assert model["lr_scheduler"]["class_path"].endswith("OneCycleLR")
    cycle = model["lr_scheduler"]["init_args"]
    assert (cycle["max_lr"], cycle["total_steps"], trainer["max_steps"]) == (0.003, iterations, iterations)
    assert (model["lr_interval"], model["threshold_criterion"]) == ("step", "fixed")
    assert (data["batch_size"], data["label"]) == (16, label)
    augment = data["augment"]["init_args"]
    assert (augment["size"], augment["crop"], augment["aspect"]) == (crop, [0.08, 1.0], [0.5, 1.5])
    assert (augment["contrast"], augment["brightness"], augment["rotation_deg"]) == (0.3, 0.3, 180)
    noisy = name in ("guay", "all_mitochondria")
    assert (augment["noise_variance"], augment["blur_px"]) == (([400, 1200], 7) if noisy else ([0, 0], 0))
    assert data["classes"] == model["classes"]
    assert (len(data["classes"]) if data["classes"] else None) == classes
    if classes:
        assert data["classes"][0] == "background"
        assert model["loss"]["init_args"]["weights"][0] == 0.1
        assert len(model["loss"]["init_args"]["weights"]) == classes
    # Isotropic volumes in three directions, the others as stacks.
    isotropic = name in ("urocell", "all_mitochondria")
    assert model["orthoplane"] is isotropic
    assert data["planes"] == ("orthogonal" if isotropic else None if name == "perez" else "xy")


@pytest.mark.parametrize("start", STARTS, ids=_name)
@pytest.mark.parametrize("name", ["lucchi", "guay"])
def test_a_start_changes_nothing_else(name: str, start: Path) -> None:
    files = documented(FOLDER / "cem500k" / f"{name}.yaml")
    before, after = resolve(*files), resolve(*files, start)
    written = yaml.safe_load(start.read_text())["model"]["init_args"]
    assert {"encoder_weights", "freeze_encoder"} <= set(written)
    before["model"]["init_args"].update(written)
    assert after == before


# Liu and Ji 2021: class, maps, attention and loss of what Tables II to VI compare.
CLEFTS: dict[str, tuple[str, int | None, str | None, str | None]] = {
    "cleftnet": ("CleftNet", 2, "augmentor", None),
    "cleftnet_no_fa": ("CleftNet", 2, "none", None),
    "cleftnet_no_la": ("CleftNet", 1, "augmentor", None),
    "cleftnet_selfattention": ("CleftNet", 2, "self", None),
    "attnunet": ("AttnUNet3D", None, None, "WeightedBCELoss"),
    "resunet": ("ResUNet3D", None, None, "WeightedBCELoss"),
    "unet3d": ("UNet3D", None, None, "WeightedBCELoss"),
    "vnet": ("VNet", None, None, "WeightedBCELoss"),
    "segnet": ("SegNet3D", None, None, "WeightedBCELoss"),
}


@pytest.mark.parametrize("folder", ["cremi", "vnc_synapses"])
@pytest.mark.parametrize("name", CLEFTS)
def test_cleft_settings_are_those_of_the_paper(folder: str, name: str) -> None:
    kind, maps, attention, loss = CLEFTS[name]
    config = resolve(*documented(FOLDER / folder / f"{name}.yaml"))
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert config["model"]["class_path"].rpartition(".")[2] == kind
    assert (model.get("maps"), model.get("attention")) == (maps, attention)
    assert (model["loss"] and model["loss"]["class_path"].rpartition(".")[2]) == loss
    assert model["optimizer"]["class_path"] == "torch.optim.Adam"
    assert model["optimizer"]["init_args"]["lr"] == 0.001
    assert [metric["class_path"].rpartition(".")[2] for metric in model["metrics"]] == ["CleftDistances"]
    # Queries are made for the patches that the network is trained on.
    assert model["patch"] == data["patch_size"]
    augment = data["augment"]["init_args"]
    assert (augment["rotation_probability"], augment["flip_probability"], augment["grey_probability"]) == (
        0.5,
        0.5,
        0.2,
    )
    sampling, split = data["sampling"]["init_args"], data["split"]["init_args"]
    assert (sampling["min_pixels"], sampling["reject"]) == (200, 0.95)
    if folder == "cremi":
        assert (model["patch"], model["widths"]) == ([8, 256, 256], [32, 64, 96, 128, 160])
        assert (split["train"], split["val"]) == (100, 25)
        assert data["batch_size"] * config["trainer"]["devices"] == 16
        assert data["patches_per_epoch"] == 100 * 16


@pytest.mark.parametrize("track", ["urisc", "urisc/track2"])
@pytest.mark.parametrize("method", PAPER)
def test_urisc_settings_are_those_of_the_paper(track: str, method: str) -> None:
    kind, encoder, rate, batch, gpus, epochs, workers = PAPER[method]
    config = resolve(*documented(FOLDER / track / f"{method}.yaml"))
    model, data, trainer = config["model"]["init_args"], config["data"]["init_args"], config["trainer"]
    assert config["model"]["class_path"].rpartition(".")[2] == kind
    assert model["encoder"] == encoder
    assert model["optimizer"]["class_path"] == "torch.optim.Adam"
    assert model["optimizer"]["init_args"]["lr"] == rate
    assert model["loss"]["class_path"].endswith("FocalDiceLoss")
    assert (model["loss"]["init_args"]["gamma"], model["loss"]["init_args"]["dice_weight"]) == (2, 1)
    assert model["blend"] == "constant"
    assert (data["patch_size"], data["batch_size"], data["num_workers"]) == (1024, batch, workers)
    assert (trainer["devices"], trainer["max_epochs"], trainer["accelerator"]) == (gpus, epochs, "gpu")
    # [P] ticks augmentation for U-Net-transfer alone; pretraining likewise.
    assert (data["augment"] is not None) == (method == "unet_transfer")
    assert (model.get("encoder_weights") is not None) == (method == "unet_transfer")
    assert not model.get("freeze_encoder")
    assert config["data"]["class_path"].endswith("URISC")
    assert data["annotation"] == "final"
    if track == "urisc":
        assert (data["patches_per_epoch"], data["overlap"]) == (50_000, 0.5)


def test_published_code_variant() -> None:
    config = resolve(FOLDER / "urisc" / "unet_published.yaml")
    assert config["model"]["class_path"].endswith("VanillaUNet")
    assert config["model"]["init_args"]["loss"]["class_path"].endswith("BCELoss")
    data = config["data"]["init_args"]
    assert data["sampling"]["class_path"].endswith("GridPatches")
    # A step of 512 px with patches of 1,024.
    assert (data["patch_size"], data["sampling"]["init_args"]["overlap"]) == (1024, 0.5)


@pytest.mark.parametrize("method", ["unet", "casenet", "linknet"])
def test_isbi_settings_follow_urisc(method: str) -> None:
    kind, encoder, rate, batch, _, epochs, _ = PAPER[method]
    config = resolve(FOLDER / "isbi2012" / f"{method}.yaml")
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert config["model"]["class_path"].rpartition(".")[2] == kind
    assert (model["encoder"], model["optimizer"]["init_args"]["lr"]) == (encoder, rate)
    assert (data["batch_size"], config["trainer"]["max_epochs"], data["patch_size"]) == (batch, epochs, 512)


@pytest.mark.parametrize("path", RUNNABLE, ids=_name)
def test_every_experiment_parses_and_says_where_it_runs(path: Path) -> None:
    files = documented(path)
    config = resolve(*files)
    assert config["trainer"]["default_root_dir"].startswith("runs/")
    # Lightning's sampler would pad the evaluation with repeated tiles.
    assert config["trainer"]["use_distributed_sampler"] is False
    assert config["checkpoint"]["save_last"] is True
    assert len(path.read_text().splitlines()) <= 42
    # What a file writes is not written in the file that it changes, too.
    if len(files) > 1:
        first, second = (_leaves(yaml.safe_load(each.read_text())) for each in files)
        assert [keys for keys in second if keys in first and second[keys] == first[keys]] == []


def test_no_two_experiments_share_a_run_folder() -> None:
    folders = [yaml.safe_load(path.read_text())["trainer"]["default_root_dir"] for path in RUNNABLE]
    assert len(set(folders)) == len(folders)


def _leaves(content: Any, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if isinstance(content, dict) and content:
        return {key: value for name, part in content.items() for key, value in _leaves(part, (*prefix, name)).items()}
    return {prefix: content}


def _at(content: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        content = content[key]
    return content


@pytest.mark.parametrize("path", SECOND, ids=_name)
def test_second_config_adds_and_drops_nothing(path: Path) -> None:
    base = FOLDER / "isbi2012" / "linknet.yaml"
    before, after = resolve(base), resolve(base, path)
    added = yaml.safe_load(path.read_text())
    appended = {keys for keys in _leaves(added) if any(key.endswith("+") for key in keys)}
    overridden = set()
    for keys, value in _leaves(added).items():
        if keys in appended or isinstance(value, list) or keys[-1] == "class_path":
            continue
        assert _at(after, keys) == value, keys
        overridden.add(keys)
    # Everything that the first file wrote and the second does not mention is still there.
    for keys, value in _leaves(yaml.safe_load(base.read_text())).items():
        mentioned = any(keys[: len(other)] == other or other[: len(keys)] == keys for other in _leaves(added))
        if not mentioned and keys[-1] != "class_path":
            assert _at(after, keys) == _at(before, keys) == value, keys


@pytest.mark.parametrize("name", [*(f"urisc/{method}" for method in (*PAPER, "unet_published")), "demo"])
def test_every_architecture_can_be_compiled(name: str) -> None:
    base = FOLDER / f"{name}.yaml"
    before, after = resolve(base), resolve(base, FOLDER / "with" / "compile.yaml")
    assert before["model"]["init_args"].pop("compile") is False
    assert after["model"]["init_args"].pop("compile") is True
    assert after == before


SMALL = {
    "UNet": ["--model.encoder", tiny.ENCODER],
    "CASENet": ["--model.encoder", tiny.TIMM_ENCODER],
    "LinkNet": ["--model.encoder", tiny.ENCODER],
    "VanillaUNet": ["--model.base_channels", "4"],
}


@pytest.mark.parametrize("name", [f"urisc/{method}" for method in (*PAPER, "unet_published")] + ["vnc/unet"])
def test_experiment_takes_a_step(name: str, tiny_store: Path, tmp_path: Path) -> None:
    path = FOLDER / f"{name}.yaml"
    kind = yaml.safe_load(path.read_text())["model"]["class_path"]
    more = list(SMALL[kind])
    if name.endswith("unet_transfer"):
        encoder = smp.Unet(tiny.ENCODER, encoder_weights=None, in_channels=1).encoder.state_dict()
        state = {f"module.encoder_q.{key}": value for key, value in encoder.items()}
        torch.save({"state_dict": state, "norms": [0.5, 0.15]}, tmp_path / "moco.pth")
        more += ["--model.encoder_weights", str(tmp_path / "moco.pth")]
    here = ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.precision", "32-true"]
    here += ["--trainer.strategy", "auto", "--trainer.enable_progress_bar", "false"]
    short = ["--trainer.max_epochs", "1", "--trainer.max_steps", "1"]
    where = ["--trainer.default_root_dir", str(tmp_path / "run"), "--data.store", str(tiny_store)]
    small = ["--data.patch_size", "64", "--data.overlap", "0.0", "--data.num_workers", "0"]
    cli.main(["fit", "--config", str(path), *more, *here, *short, *where, *small])
    # The callbacks that every run relies on came along.
    assert (tmp_path / "run" / "environment.json").is_file()
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 1
    assert checkpoint["emseg"]["architecture"] == kind
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


def test_metrics_of_mosaics_are_added_to_any_experiment() -> None:
    config = resolve(FOLDER / "isbi2012" / "linknet.yaml", FOLDER / "with" / "mosaic_metrics.yaml")
    metrics = config["model"]["init_args"]["metrics"]
    assert [metric["class_path"].rpartition(".")[2] for metric in metrics] == [
        *("VRand", "VInfo", "AdaptedRand", "VariationOfInformation"),
        *("TolerantF1", "SurfaceDistances", "SkeletonRecall"),
    ]
    assert metrics[0]["init_args"]["thinned"] is True
    assert metrics[6]["init_args"]["tolerance_nm"] == 10
    assert config["model"]["init_args"]["encoder"] == "resnet18"
