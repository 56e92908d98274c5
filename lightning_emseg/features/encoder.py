"""Maps of the last layer of any network of timm, in whatever form it computes them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.core.weights import MocoWeights, first_convolution, initialise_encoder, load_moco_weights

Size = tuple[int, int]


class FeatureMaps(nn.Module):
    """A network whose output is always maps ``(B, F, y, x)``.

    Convolutional networks compute them so, some with channels last. Of networks of tokens, the last intermediate
    features are taken as timm arranges them on the image, behind their norm and without class tokens.

    Args:
        backbone: Network of timm without classifier.
        architecture: Its name, for messages.
        takes: Sides (Y, X) in px of the only images it is made for, or ``None`` if it is made for any.
    """

    def __init__(self, backbone: nn.Module, architecture: str, takes: Size | None = None) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.architecture, self.takes = architecture, takes
        self._of_tokens = False

    def forward(self, normalised: Tensor) -> Tensor:
        """Maps ``float (B, F, y, x)`` of normalised images ``float (B, C, Y, X)``.

        Raises:
            UserError: if the network does not take images of that size.
        """
        height, width = normalised.shape[-2:]
        if self.takes is not None and self.takes != (height, width):
            raise UserError(
                f"{self.architecture} takes images of {_px(self.takes)} only, but one has {_px((height, width))}: cut "
                "the images to that size, or give an encoder that takes any"
            )
        try:
            return self._maps(normalised)
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{self.architecture} cannot encode images of {_px((height, width))} ({error}): give others, with "
                "sides that are multiples of its stride (often 32 px), or another encoder"
            ) from error

    def _maps(self, normalised: Tensor) -> Tensor:
        if not self._of_tokens:
            found = self.backbone.forward_features(normalised)
            if isinstance(found, Tensor) and found.ndim == 4:
                return found.permute(0, 3, 1, 2) if getattr(self.backbone, "output_fmt", "NCHW") == "NHWC" else found
            # Nothing in timm tells before the first image; from now on, one pass suffices.
            self._of_tokens = True
        options = {"indices": 1, "output_fmt": "NCHW", "intermediates_only": True}
        try:
            maps: Tensor = self.backbone.forward_intermediates(normalised, norm=True, **options)[-1]
        except AssertionError:  # of networks whose norm belongs to the head
            maps = self.backbone.forward_intermediates(normalised, norm=False, **options)[-1]
        return maps


def build_network(architecture: str, channels: int, pretrained: bool = False, size: Size | None = None) -> FeatureMaps:
    """Build a network of timm for images of any size, if that is possible.

    Networks that timm makes for one size are asked to take any (``dynamic_img_size``, positions are interpolated), or
    else to be made for the size that is wanted (``img_size``); the others refuse all images but those of their own.

    Args:
        architecture: Name in timm, perhaps with the tag of pretrained weights.
        channels: Number of channels of its images.
        pretrained: Whether timm downloads weights.
        size: Sides (Y, X) in px of all images, or ``None`` if they differ or weights come from elsewhere.

    Returns:
        It, in evaluation mode.

    Raises:
        UserError: if timm has no such architecture, or its weights cannot be downloaded.
    """
    try:
        backbone, takes = _create(architecture, size, in_chans=channels, pretrained=pretrained, num_classes=0)
    except OSError as error:
        raise UserError(
            f"imagenet:{architecture} cannot be downloaded ({type(error).__name__}): try again with a connection"
        ) from error
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"encoder {architecture!r}: {error}; give an architecture of timm, as resnet50 or efficientnet_b0 "
            "(`timm.list_models()` has all names)"
        ) from error
    if not hasattr(backbone, "forward_features"):
        raise UserError(f"encoder {architecture!r} computes no maps: give another one of timm, as resnet50")
    return FeatureMaps(backbone, architecture, takes).eval().to(memory_format=torch.channels_last)


def _create(architecture: str, size: Size | None, **options: Any) -> tuple[nn.Module, Size | None]:
    config = timm.models.get_pretrained_cfg(architecture)
    if config is None or not config.fixed_input_size:
        return timm.create_model(architecture, **options), None
    ways: list[dict[str, Any]] = [{"dynamic_img_size": True, "dynamic_img_pad": True}, {"dynamic_img_size": True}]
    for more in ways if size is None else [*ways, {"img_size": size}]:
        try:
            backbone = timm.create_model(architecture, **options, **more)
        except (AssertionError, TypeError):
            # Only constructors know which options they take, and which sizes.
            continue
        if "img_size" in more or getattr(backbone, "dynamic_img_size", False):
            return backbone, more.get("img_size")
    height, width = config.input_size[-2:]
    return timm.create_model(architecture, **options), (height, width)


def _px(size: Size) -> str:
    return f"{size[0]} × {size[1]} px"


Norms = tuple[float, float]
_IMAGENET = (255 * 0.485, 255 * 0.456, 255 * 0.406), (255 * 0.229, 255 * 0.224, 255 * 0.225)
"""Mean and standard deviation of each channel in grey levels."""
_BLOCKS: Mapping[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}
"""ResNets by whether their blocks have three convolutions, and by the number of blocks of each stage."""


@dataclass(frozen=True)
class Encoder:
    """A network whose features are looked at, and how it wants its images.

    Attributes:
        name: Name for tables and legends.
        source: Origin of its weights.
        architecture: Name in timm.
        network: Network that maps normalised images ``float (B, C, Y, X)`` to the maps of its last layer
            ``(B, F, y, x)``; in evaluation mode.
        mean: Grey level 0–255 that is subtracted, one a channel.
        std: Divisor of grey levels, one a channel.
        normalised_by: Origin of both.
    """

    name: str
    source: str
    architecture: str
    network: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    normalised_by: str

    @property
    def channels(self) -> int:
        """Channels of its images; grey is repeated over them."""
        return len(self.mean)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next((value.device for value in self.network.parameters()), torch.device("cpu"))

    def normalise(self, grey: Tensor) -> Tensor:
        """Normalise grey images for the network.

        Args:
            grey: ``(B, 1, Y, X)`` of any type, grey levels 0–255.

        Returns:
            ``float32 (B, C, Y, X)`` on the network's device.
        """
        mean, std = (torch.tensor(values, device=self.device).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (grey.to(self.device).float() - mean) / std

    def maps(self, normalised: Tensor) -> Tensor:
        """Maps of the last layer ``float32 (B, F, y, x)`` of normalised images."""
        with torch.inference_mode():
            maps: Tensor = self.network(normalised.to(memory_format=torch.channels_last))
        return maps.float()

    def features(self, normalised: Tensor) -> Tensor:
        """Means of the maps ``float32 (B, F)``, the neurons: 2,048 of a ResNet-50; no layer behind the pooling."""
        return self.maps(normalised).mean(dim=(2, 3))

    def to(self, device: torch.device) -> "Encoder":
        """The same on another device; the network itself is moved."""
        return replace(self, network=self.network.to(device))

    def record(self) -> dict[str, object]:
        """JSON-ready facts."""
        names = ("source", "architecture", "normalised_by")
        return {**{name: getattr(self, name) for name in names}, "mean": list(self.mean), "std": list(self.std)}


def open_encoder(name: str, spec: str, image_norms: Norms, size: Size | None = None) -> Encoder:
    """Make an encoder of any architecture of timm.

    Files are normalised by their own ``norms``, ImageNet's by those of ImageNet (also files of three channels without
    norms, as MoCo's released ones), random ones and grey files without norms by those of the images.

    Args:
        name: Name for tables and legends.
        spec: A file in CEM500K's format (see :func:`~lightning_emseg.core.weights.load_moco_weights`);
            ``ARCHITECTURE:FILE`` where a file does not say which one it is of, as only ResNet-18, 34, 50, 101 and 152
            are recognised without; ``random:ARCHITECTURE:SEED`` (one channel, timm's initial weights); or
            ``imagenet:ARCHITECTURE``, which timm downloads.
        image_norms: Mean and standard deviation of the images in grey levels.
        size: Sides (Y, X) of the images in px if all have the same: networks that are made for one size are made for
            this, unless their weights are of a file.

    Raises:
        UserError: if there is no such file or architecture, its keys do not fit, or it cannot be downloaded.
    """
    kind, _, rest = spec.partition(":")
    if kind == "random":
        architecture, _, seed = rest.rpartition(":")
        if not architecture or not seed.isdecimal():
            raise UserError(f"{name}={spec}: give an architecture and a seed, as random:resnet18:0")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            network = build_network(architecture, 1, size=size)
        mean, std = ((value,) for value in image_norms)
        return Encoder(name, f"random weights, seed {int(seed)}", architecture, network, mean, std, "the images")
    if kind == "imagenet":
        network = build_network(rest, 3, pretrained=True, size=size)
        config = network.backbone.pretrained_cfg
        mean, std = (tuple(255 * value for value in config[key]) for key in ("mean", "std"))
        return Encoder(name, "ImageNet, of timm", rest, network, mean, std, "ImageNet")
    if rest and not Path(spec).exists():
        if timm.is_model(kind):
            return _read_encoder(name, rest, image_norms, kind)
        if Path(rest).is_file():
            raise UserError(f"{name}={spec}: timm has no architecture {kind!r}; `timm.list_models()` has all names")
    return _read_encoder(name, spec, image_norms)


def _read_encoder(name: str, path: str, image_norms: Norms, architecture: str | None = None) -> Encoder:
    weights = load_moco_weights(Path(path))
    architecture = architecture or _architecture(weights, name)
    network = build_network(architecture, 1)
    channels = _channels(weights, network.backbone)
    if channels != 1:
        network = build_network(architecture, channels)
    initialise_encoder(network.backbone, weights)
    if weights.norms is None and channels == 3:
        return Encoder(name, path, architecture, network, *_IMAGENET, "ImageNet")
    mean, std = ((value,) * channels for value in weights.norms or image_norms)
    return Encoder(name, path, architecture, network, mean, std, "the file" if weights.norms else "the images")


def _channels(weights: MocoWeights, grey: nn.Module) -> int:
    """Channels of a file's images, by what its first convolution has more than that of a network of grey ones."""
    wanted: dict[str, Tensor] = grey.state_dict()
    key = first_convolution(wanted)
    given = weights.state_dict.get(key) if key else None
    if key is None or given is None or given.ndim != 4:
        return 1
    channels = given.shape[1] / wanted[key].shape[1]
    if channels not in (1, 3):
        raise UserError(
            f"{weights.path} takes images of {channels:g} channels: only grey (1) and colour (3) can be analysed"
        )
    return int(channels)


def _architecture(weights: MocoWeights, name: str) -> str:
    if weights.architecture is not None and timm.is_model(weights.architecture):
        return weights.architecture
    keys = [key.split(".") for key in weights.state_dict if key.startswith("layer")]
    blocks = tuple(len({key[1] for key in keys if key[0] == f"layer{stage}"}) for stage in (1, 2, 3, 4))
    bottleneck = any(key[2:3] == ["conv3"] for key in keys)
    if (bottleneck, blocks) not in _BLOCKS:
        raise UserError(
            f"{weights.path}: records no architecture of timm (but {weights.architecture}), and its stages have "
            f"{blocks} blocks, which is none of {', '.join(_BLOCKS.values())}: name the architecture before the file, "
            f"as {name}=efficientnet_b0:{weights.path}"
        )
    return _BLOCKS[bottleneck, blocks]
