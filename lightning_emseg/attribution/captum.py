"""Attribution methods of captum, named by class path."""

import importlib
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from captum.attr import LRP, Attribution, FeaturePermutation, LayerAttribution, NeuronAttribution
from torch import Tensor, nn

from data_modules.errors import UserError
from data_modules.geometry import Shape
from lightning_emseg.attribution.captum_networks import prepare_network
from lightning_emseg.attribution.fields import compute_answers
from lightning_emseg.attribution.method import AttributionMethod, BoundMethod, Field
from lightning_emseg.attribution.network import Output, PixelOutput, flat_index, refuse_training, single_precision
from lightning_emseg.attribution.windows import Baseline

_NETWORK_NAMES = ("forward_func", "model")
_OURS = ("inputs", "target", "baselines", "additional_forward_args", "return_convergence_delta")
"""Arguments of ``attribute`` that are not the user's to give."""


class Captum(AttributionMethod):
    """Any method of captum that explains single outputs by the input, one call a pixel over the whole window.

    DeepLift, GuidedBackprop and Deconvolution work by hooks on modules and are called on a copy of the network on which
    these hooks are right; where there is none, they are refused, see
    :func:`~lightning_emseg.attribution.captum_networks.prepare_network`. The completeness error is reported for every
    method, but means something only for those whose attributions are meant to sum to F(x) − F(x'), as DeepLift's.

    Args:
        method: Class path, e.g. ``captum.attr.Saliency``.
        method_args: Arguments of the class, the network aside, e.g. ``{eps: 1.0e-6}`` for DeepLift.
        attribute_args: Arguments of its ``attribute``, the baseline aside, e.g. for Occlusion ``{sliding_window_shapes:
            [1, 16, 16], strides: [1, 8, 8]}``; lists become tuples.
        output: Attributed output at a pixel, ``logit`` or ``probability``.
        baseline: Baseline of methods that take one: ``noise``, ``zero``, ``mean`` or ``blurred``.

    Raises:
        UserError: if there is no such method, it does not explain outputs by inputs, or the arguments are not its own.
    """

    def __init__(
        self,
        method: str,
        method_args: dict[str, Any] | None = None,
        attribute_args: dict[str, Any] | None = None,
        output: Output = "logit",
        baseline: Baseline = "noise",
    ) -> None:
        self.method, self.output, self.baseline = method, output, baseline
        self.kind = _find_method(method)
        self.method_args, self.attribute_args = _as_tuples(method_args or {}), _as_tuples(attribute_args or {})
        takes = inspect.signature(self.kind.attribute).parameters
        self.takes_baselines = "baselines" in takes
        _check_arguments(
            f"{method}: method_args", inspect.signature(self.kind).parameters, self.method_args, _NETWORK_NAMES
        )
        _check_arguments(f"{method}: attribute_args", takes, self.attribute_args, ("self", *_OURS))

    def bind(self, network: nn.Module, stride: int | Sequence[int]) -> "BoundCaptum":
        """Prepare for one network; see :meth:`AttributionMethod.bind`."""
        refuse_training(network)
        return BoundCaptum(self, network)

    def attribute(
        self, network: nn.Module, window: Tensor, baseline: Tensor, pixels: Sequence[tuple[int, ...]]
    ) -> Tensor:
        """Attribute the network's answers at single pixels, one call of the method a pixel.

        Args:
            network: Network in evaluation mode, from grey windows ``float (B, C, *S)``, levels 0–255, to answers
                ``(B, prod(S))`` as :class:`~lightning_emseg.attribution.network.PixelOutput`.
            window: Image ``float (C, *S)``, on the network's device.
            baseline: Baseline ``float (C, *S)``; used where the method takes one.
            pixels: P positions in the window, in px.

        Returns:
            ``float32 (P, *S)`` on the CPU, the sum over channels, in the units of the method.

        Raises:
            UserError: if the network is in training mode, or the method would be wrong on it or refuses its arguments.
            ValueError: if a pixel lies outside the window.
        """
        refuse_training(network)
        targets = flat_index(pixels, window.shape[1:]).tolist()
        inputs = window.detach().clone()[None]
        options = dict(self.attribute_args)
        if self.takes_baselines:
            options["baselines"] = baseline.detach()[None].to(inputs)
        found = torch.zeros(len(targets), *window.shape[1:])
        with _allow_unpooling(), warnings.catch_warnings():
            # Some say at every call that they set hooks, which is what they were asked for.
            warnings.filterwarnings("ignore", message="Setting (forward, )?backward hooks", category=UserWarning)
            attribution: Any = self.kind(prepare_network(self.kind, network, inputs), **self.method_args)
            for place, target in enumerate(targets):
                try:
                    values = attribution.attribute(inputs.clone().requires_grad_(), target=target, **options)
                except UserError:
                    raise
                except (AssertionError, IndexError, TypeError, ValueError) as error:
                    raise UserError(
                        f"{self.method} refuses a window {tuple(inputs.shape)} with attribute_args "
                        f"{self.attribute_args}: {error}; see its documentation for what they must be"
                    ) from error
                found[place] = values.detach()[0].sum(dim=0)
        return found


class BoundCaptum(BoundMethod):
    """A method of captum and the network that it explains.

    Args:
        method: Settings of the method.
        network: Network as in :meth:`AttributionMethod.bind`.
    """

    def __init__(self, method: Captum, network: nn.Module) -> None:
        self.method = method
        self._answers = PixelOutput(network, method.output)

    def fields(
        self, image: Tensor, baseline: Tensor, pixels: Sequence[Shape], together: Sequence[Sequence[int]]
    ) -> list[Field]:
        """Compute fields over the whole window, in the units of the method; see :meth:`Captum.attribute`."""
        flat = flat_index(pixels, image.shape[1:])
        outputs, before = (compute_answers(self._answers, window, flat).tolist() for window in (image, baseline))
        with torch.inference_mode(False), torch.enable_grad(), single_precision(image.device):
            values = self.method.attribute(self._answers, image, baseline, pixels).numpy().astype(np.float32)
        origin = (0,) * (image.ndim - 1)
        return [Field(*found) for found in zip(pixels, [origin] * len(pixels), values, outputs, before, strict=True)]

    @property
    def record(self) -> dict[str, Any]:
        """Class path and arguments."""
        record = {name: getattr(self.method, name) for name in ("method", "method_args", "attribute_args", "output")}
        return {**record, "baseline": self.method.baseline if self.method.takes_baselines else None}


@contextmanager
def _allow_unpooling() -> Iterator[None]:
    """Let ``max_unpool`` run under torch's deterministic algorithms, for DeepLIFT's rule for max pooling.

    torch refuses it because several windows may have one maximum; those of the copy that DeepLIFT hooks never overlap
    (:func:`~lightning_emseg.attribution.captum_networks.separate_pool_windows`), so that nothing depends on an order.
    """
    strict, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(strict, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="max_unpooling.* does not have a deterministic implementation")
            yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)


def _find_method(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise UserError(
            f"there is no attribution method {path}: give a class path, e.g. captum.attr.Saliency"
        ) from None
    advice = "take one that explains outputs by inputs, e.g. captum.attr.Saliency or captum.attr.Occlusion"
    if not (isinstance(found, type) and issubclass(found, Attribution)):
        raise UserError(f"{path} is no attribution method of captum: {advice}")
    if issubclass(found, LayerAttribution | NeuronAttribution):
        raise UserError(f"{path} is about a layer or neuron inside the network: {advice}")
    if issubclass(found, FeaturePermutation):
        raise UserError(f"{path} swaps pixels between windows, but gets one at a time: {advice}")
    if issubclass(found, LRP):
        raise UserError(
            f"{path} has rules for a few kinds of layers only and gives wrong fields where anything else joins them, "
            "as additions do: take captum.attr.DeepLift, or captum.attr.InputXGradient, which its rules come down to "
            "in networks of ReLUs and max pools (Ancona et al. 2018)"
        )
    parameters = list(inspect.signature(found).parameters)
    if not hasattr(found, "attribute") or not parameters or parameters[0] not in _NETWORK_NAMES:
        raise UserError(f"{path} does not attribute a network's output by itself: {advice}")
    return found


def _check_arguments(
    what: str, takes: Mapping[str, inspect.Parameter], given: Mapping[str, Any], ours: Sequence[str]
) -> None:
    theirs = {
        name: parameter
        for name, parameter in takes.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD and name not in ours
    }
    unknown = [name for name in given if name not in theirs]
    if unknown:
        raise UserError(f"{what} has no {', '.join(unknown)}: it can have {', '.join(theirs) or 'nothing'}")
    missing = [name for name, at in theirs.items() if at.default is inspect.Parameter.empty and name not in given]
    if missing:
        raise UserError(
            f"{what} lacks {', '.join(missing)}: add it, e.g. as {what.split(': ')[1]}: {{{missing[0]}: …}}"
        )


def _as_tuples(value: Any) -> Any:
    """Turn lists into tuples, at any depth: YAML has no tuples, captum no lists."""
    if isinstance(value, Mapping):
        return {key: _as_tuples(each) for key, each in value.items()}
    return tuple(_as_tuples(each) for each in value) if isinstance(value, list | tuple) else value
