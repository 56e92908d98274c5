"""Maps of the last layer of any network of timm, in whatever form it computes them."""

from collections.abc import Iterator, Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from data_modules.errors import UserError

Size = tuple[int, int]


class FeatureMaps(nn.Module):
    """A network whose output is always maps ``(B, F, y, x)``.

    Convolutional networks compute them so, some with channels last. Of networks of tokens, the last intermediate
    features are taken as timm arranges them on the image, behind their norm and without class tokens.

    Args:
        backbone: Of timm, without classifier.
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
        if self._of_tokens:
            return self._last_intermediates(normalised)
        found = self.backbone.forward_features(normalised)
        if isinstance(found, Tensor) and found.ndim == 4:
            return found.permute(0, 3, 1, 2) if getattr(self.backbone, "output_fmt", "NCHW") == "NHWC" else found
        # Nothing in timm tells before the first image; from now on, one pass suffices.
        self._of_tokens = True
        return self._last_intermediates(normalised)

    def _last_intermediates(self, normalised: Tensor) -> Tensor:
        def last(norm: bool) -> Tensor:
            maps: Tensor = self.backbone.forward_intermediates(
                normalised, indices=1, norm=norm, output_fmt="NCHW", intermediates_only=True
            )[-1]
            return maps

        try:
            return last(norm=True)
        except AssertionError:  # of networks whose norm belongs to the head
            return last(norm=False)


def build_network(architecture: str, channels: int, pretrained: bool = False, size: Size | None = None) -> FeatureMaps:
    """A network of timm for images of any size, if that is possible.

    Networks that timm makes for one size are asked to take any (``dynamic_img_size``, positions are interpolated), or
    else to be made for the size that is wanted (``img_size``); the others refuse all images but those of their own.

    Args:
        architecture: Of timm, perhaps with the tag of pretrained weights.
        channels: Of its images.
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
    for more in _sizes(size):
        try:
            backbone = timm.create_model(architecture, **options, **more)
        except (AssertionError, TypeError):
            # Only constructors know which options they take, and which sizes.
            continue
        if "img_size" in more or getattr(backbone, "dynamic_img_size", False):
            return backbone, more.get("img_size")
    height, width = config.input_size[-2:]
    return timm.create_model(architecture, **options), (height, width)


def _sizes(size: Size | None) -> Iterator[Mapping[str, Any]]:
    yield {"dynamic_img_size": True, "dynamic_img_pad": True}
    yield {"dynamic_img_size": True}
    if size is not None:
        yield {"img_size": size}


def _px(size: Size) -> str:
    return f"{size[0]} × {size[1]} px"
