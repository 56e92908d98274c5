"""Files in the format of CEM500K's release start an encoder, and every other file is refused readably."""

from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.core.weights import LoadReport, MocoWeights, initialise_encoder, load_moco_weights
from lightning_emseg.networks.casenet import CASENet


def encoder(name: str = "resnet50", in_channels: int = 1) -> Any:
    return smp.encoders.get_encoder(name, in_channels=in_channels, weights=None)


@pytest.fixture(scope="module")
def resnet() -> Any:
    """A ResNet-50 under torchvision's keys as MoCo v2 trains it: one grey channel, an MLP head of 128."""
    torch.manual_seed(0)
    network = timm.create_model("resnet50", pretrained=False, in_chans=1, num_classes=128)
    network.fc = nn.Sequential(nn.Linear(2048, 2048), nn.ReLU(), network.fc)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            nn.init.normal_(norm.running_mean, std=0.1)
    return network.eval()


def released(resnet: nn.Module, norms: object = None) -> dict[str, Any]:
    state: dict[str, Tensor] = {}
    for key, value in resnet.state_dict().items():
        state[f"module.encoder_q.{key}"] = value
        state[f"module.encoder_k.{key}"] = torch.zeros_like(value)
    state["module.queue"] = torch.zeros(128, 8)
    checkpoint = {"epoch": 200, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}
    return checkpoint if norms is None else {**checkpoint, "norms": norms}


@pytest.fixture(scope="module")
def released_file(resnet: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "cem500k_mocov2_resnet50_200ep.pth.tar"
    torch.save(released(resnet, [[0.58331613], [0.09966064]]), path)
    return path


@pytest.fixture(scope="module")
def weights(released_file: Path) -> MocoWeights:
    return load_moco_weights(released_file)


def features(resnet: Any, x: Tensor) -> Tensor:
    out: Tensor = resnet.forward_features(x)
    return out


def test_reads_the_query_encoder_and_the_norms(weights: MocoWeights, resnet: nn.Module) -> None:
    expected = {key: value for key, value in resnet.state_dict().items() if not key.startswith("fc.")}
    assert weights.state_dict.keys() == expected.keys()
    assert all(torch.equal(weights.state_dict[key], value) for key, value in expected.items())
    assert weights.norms == pytest.approx((148.7456, 25.4135), abs=1e-3)


def test_smp_encoder_computes_what_the_pretrained_one_does(weights: MocoWeights, resnet: nn.Module) -> None:
    network = encoder().eval()
    report = initialise_encoder(network, weights)
    assert set(report.loaded) == set(network.state_dict())
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(x)[-1], features(resnet, x))


def test_timm_encoder_of_casenet_takes_the_same_weights(weights: MocoWeights, resnet: nn.Module) -> None:
    network = CASENet("resnet50").eval()
    initialise_encoder(network.encoder, weights)
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.encoder(x)[-1], features(resnet, x))


def test_three_channels_see_grey_as_one_does(weights: MocoWeights, resnet: nn.Module) -> None:
    network = encoder(in_channels=3).eval()
    initialise_encoder(network, weights)
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(x.repeat(1, 3, 1, 1))[-1], features(resnet, x), rtol=1e-3, atol=1e-4)


def test_one_channel_sees_grey_as_three_do(tmp_path: Path) -> None:
    three = encoder(in_channels=3).eval()
    state = {f"module.encoder_q.{key}": value for key, value in three.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "imagenet.pth.tar")
    one = encoder().eval()
    initialise_encoder(one, load_moco_weights(tmp_path / "imagenet.pth.tar"))
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(one(x)[-1], three(x.repeat(1, 3, 1, 1))[-1], rtol=1e-3, atol=1e-4)


def test_other_channel_counts_are_refused(weights: MocoWeights) -> None:
    with pytest.raises(UserError, match=r"conv1\.weight: \(64, 1, 7, 7\) in the file, \(64, 2, 7, 7\) in the encoder"):
        initialise_encoder(encoder(in_channels=2), weights)


def test_another_architecture_is_refused_and_left_alone(weights: MocoWeights) -> None:
    network = encoder("resnet34")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(
        UserError,
        match=r"200ep\.pth\.tar: does not fit the encoder: 102 are not in the encoder .* 31 have another shape",
    ):
        initialise_encoder(network, weights)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_deeper_network_of_same_kind_is_refused(weights: MocoWeights) -> None:
    deeper = {**weights.state_dict, "layer3.22.conv1.weight": torch.zeros(256, 1024, 1, 1)}
    with pytest.raises(UserError, match=r"1 are not in the encoder \(layer3\.22\.conv1\.weight\)"):
        initialise_encoder(encoder(), MocoWeights(weights.path, deeper, None))


def test_missing_keys_are_refused(weights: MocoWeights) -> None:
    partial = {key: value for key, value in weights.state_dict.items() if not key.startswith("layer4.2.conv3")}
    cut = MocoWeights(weights.path, partial, None)
    with pytest.raises(UserError, match=r"1 keys are missing \(layer4\.2\.conv3\.weight\).*1 of the encoder's"):
        initialise_encoder(encoder(), cut)


def test_counters_of_batch_norm_may_be_missing(weights: MocoWeights) -> None:
    without = {key: value for key, value in weights.state_dict.items() if "num_batches" not in key}
    assert set(initialise_encoder(encoder(), MocoWeights(weights.path, without, None)).loaded) == set(without)


def test_nothing_in_common_is_refused(weights: MocoWeights) -> None:
    with pytest.raises(UserError, match=r"fits no weight of the encoder Sequential; its keys are conv1\.weight, "):
        initialise_encoder(nn.Sequential(nn.Conv2d(1, 2, 3)), weights)


def small(norms: object) -> dict[str, Any]:
    state = {"encoder_q.conv1.weight": torch.zeros(1), "encoder_q.fc.weight": torch.zeros(1)}
    return {"state_dict": state, "norms": norms}


@pytest.mark.parametrize(
    "norms",
    [
        (0.5, 0.1),
        [0.5, 0.1],
        {"mean": 0.5, "std": 0.1},
        {"mean": [0.5], "std": torch.tensor([0.1])},
        torch.tensor([0.5, 0.1]),
    ],
)
def test_forms_of_norms(norms: object, tmp_path: Path) -> None:
    torch.save(small(norms), tmp_path / "w.pth")
    read = load_moco_weights(tmp_path / "w.pth")
    assert read.norms == pytest.approx((127.5, 25.5))
    assert list(read.state_dict) == ["conv1.weight"]


def test_norms_may_be_absent(tmp_path: Path) -> None:
    torch.save(small(None), tmp_path / "w.pth")
    assert load_moco_weights(tmp_path / "w.pth").norms is None


@pytest.mark.parametrize(
    "norms", [(148.7, 25.4), (0.5, 0.0), (0.5,), {"mean": 0.5}, [[0.5, 0.5, 0.5], [0.1, 0.1, 0.1]], 0.5, "x"]
)
def test_norms_out_of_range_or_form_are_refused(norms: object, tmp_path: Path) -> None:
    torch.save(small(norms), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth: 'norms' must be one mean and one standard deviation"):
        load_moco_weights(tmp_path / "w.pth")


class Unwanted:
    """A class that a weights-only reader must not build."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {}}, "no dict 'state_dict' but model"),
        ([1, 2], "no dict 'state_dict' but list"),
        ({"state_dict": {}}, r"no key starts with 'module\.encoder_q\.' \(the keys are none\)"),
        ({"state_dict": {"layer1.w": 1, "b": 2, "c": 3, "d": 4}}, r"the keys are layer1\.w, b, c, …"),
        ({"state_dict": {"module.encoder_q.fc.weight": torch.zeros(1)}}, "no key starts with"),
        ({"state_dict": Unwanted()}, "cannot be read as a PyTorch file"),
    ],
)
def test_other_torch_files_are_refused(content: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match=r"other\.pth: .*" + message):
        load_moco_weights(path)


@pytest.mark.parametrize(
    "content", [b"", b"no torch file", b"PK\x03\x04" + bytes(200), bytes(range(256)), b"\x80\x02."]
)
def test_files_of_other_formats_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.pth.tar"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.pth\.tar: cannot be read"):
        load_moco_weights(path)


def test_an_incomplete_download_is_refused(released_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.pth.tar"
    path.write_bytes(released_file.read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"cut\.pth\.tar: cannot be read.*incomplete download"):
        load_moco_weights(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(UserError, match="no such file; give the path"):
            load_moco_weights(path)


def test_report_reads_as_one_line() -> None:
    assert str(LoadReport(("a", "b"))) == "2 weights loaded"
    assert str(LoadReport(("a", "b"), ("c",))) == "2 weights loaded, 1 left out behind the last stage (c)"
