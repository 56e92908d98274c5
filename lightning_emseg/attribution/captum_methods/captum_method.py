"""Captum's methods behind the interface that all attribution methods share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_modules.grid import Shape
from lightning_emseg.attribution.arithmetic import single_precision
from lightning_emseg.attribution.baselines import Baseline
from lightning_emseg.attribution.captum_methods.class_path import CaptumMethod
from lightning_emseg.attribution.fields import Field
from lightning_emseg.attribution.method import AttributionMethod, BoundMethod
from lightning_emseg.attribution.outputs import Output, PixelOutput, flat_index
from lightning_emseg.attribution.path import answers_at


class Captum(AttributionMethod):
    """Any method of captum that explains single outputs by the input, one call a pixel over the whole window.

    The completeness error is reported for every method, but means something only for those whose attributions are
    meant to sum to F(x) − F(x'), as DeepLift's.

    Args:
        method: Class path, e.g. ``captum.attr.Saliency``.
        method_args: Arguments of the class, the network aside.
        attribute_args: Arguments of its ``attribute``, the baseline aside.
        output: Whether the ``logit`` or the ``probability`` at a pixel is attributed.
        baseline: What the image is compared with, by methods that do: ``noise``, ``zero``, ``mean`` or ``blurred``.

    Raises:
        UserError: if there is no such method or the arguments are not its own.
    """

    def __init__(
        self,
        method: str,
        method_args: dict[str, Any] | None = None,
        attribute_args: dict[str, Any] | None = None,
        output: Output = "logit",
        baseline: Baseline = "noise",
    ) -> None:
        self.captum = CaptumMethod(method, method_args, attribute_args)
        self.output, self.baseline = output, baseline

    def bind(self, network: nn.Module, stride: int | Sequence[int]) -> "BoundCaptum":
        """Prepare for one network; see :meth:`AttributionMethod.bind`."""
        return BoundCaptum(self, network)


class BoundCaptum(BoundMethod):
    """A method of captum and the network that it explains.

    Args:
        method: The settings.
        network: As in :meth:`AttributionMethod.bind`.
    """

    def __init__(self, method: Captum, network: nn.Module) -> None:
        self.method = method
        self._answers = PixelOutput(network, method.output)

    def fields(
        self, image: Tensor, baseline: Tensor, pixels: Sequence[Shape], together: Sequence[Sequence[int]]
    ) -> list[Field]:
        """Fields over the whole window, in the units of the method.

        Raises:
            UserError: if the method would be wrong on this network, or refuses its arguments.
        """
        flat = flat_index(pixels, image.shape[1:])
        outputs, before = (answers_at(self._answers, window, flat).tolist() for window in (image, baseline))
        with torch.inference_mode(False), torch.enable_grad(), single_precision(image.device):
            values = self.method.captum.fields(self._answers, image, baseline, pixels).numpy().astype(np.float32)
        origin = (0,) * (image.ndim - 1)
        return [Field(*found) for found in zip(pixels, [origin] * len(pixels), values, outputs, before, strict=True)]

    @property
    def record(self) -> dict[str, Any]:
        """Class path and arguments."""
        captum = self.method.captum
        return {
            "method": captum.method,
            "method_args": captum.method_args,
            "attribute_args": captum.attribute_args,
            "output": self.method.output,
            "baseline": self.method.baseline if captum.takes_baselines else None,
        }
