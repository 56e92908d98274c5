"""The copy of a network on which a captum method that hooks modules is right, or the reason why there is none."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from captum.attr import LRP, Attribution, Deconvolution, DeepLift, GuidedBackprop
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR
from captum.attr._core.lrp import SUPPORTED_LAYERS_WITH_RULES, SUPPORTED_NON_LINEAR_LAYERS
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.attribution.captum_methods.disjoint_pools import separate_windows
from lightning_emseg.attribution.captum_methods.operations import Operation, operations
from lightning_emseg.attribution.captum_methods.rewrite import leaves, one_call_each, replace, trial_run

# captum's rule for softmax takes the mean over all outputs at once, which is one sample's classes only for classifiers.
_NON_LINEAR = frozenset(SUPPORTED_NON_LINEAR) - {nn.Softmax}
_RELEVANCE = frozenset([*SUPPORTED_LAYERS_WITH_RULES, *SUPPORTED_NON_LINEAR_LAYERS])
_NORMALISATION = frozenset({"add", "div", "mul", "rsub", "sub"})


@dataclass(frozen=True)
class Prepared:
    """What a method is to be called with.

    Attributes:
        network: From ``(B, C, *S)`` to ``(B, N)``, to be hooked.
        slope: ``float (1, C, *S)`` that attributions are to be divided by.
    """

    network: nn.Module
    slope: Tensor | float = 1.0


Preparation = Callable[[str, nn.Module, Tensor], Prepared]


def prepared(method: type[Attribution], network: nn.Module, example: Tensor) -> Prepared:
    """Make a network ready for a method of captum; only methods that hook modules need a copy.

    Args:
        method: Of ``captum.attr``.
        network: From ``(B, C, *S)`` to ``(B, N)``; never changed.
        example: ``(1, C, *S)`` on the network's device; a trial run of it shows what the network does.

    Raises:
        UserError: if the method would be wrong on this network.
    """
    for kind, prepare in _PREPARATIONS.items():
        if issubclass(method, kind):
            return prepare(method.__name__, network, example)
    return Prepared(network)


def _for_non_linear_modules(method: str, network: nn.Module, example: Tensor) -> Prepared:
    """Every non-linear step has to be a module that captum hooks; it takes all else for linear, without a word."""
    copied = one_call_each(network, example)
    wrong = [step for step in operations(copied, example) if not step.affine and step.module not in _NON_LINEAR]
    # Autograd detaches what non-linear steps keep for their gradient; only alone does it say something.
    named = [step for step in wrong if step.name != "detach"] or wrong
    if named:
        raise UserError(
            f"{method} treats non-linear steps right only where each is a module of its own that captum knows "
            f"({_kinds(_NON_LINEAR)}), but this network has {_listed(named)}: take captum.attr.InputXGradient or "
            "captum.attr.IntegratedGradients, which need no modules"
        )
    separate_windows(copied)
    return Prepared(copied)


def _for_relevance(method: str, network: nn.Module, example: Tensor) -> Prepared:
    """Between hooked layers the gradient is relevance, so that only steps which copy values may lie there.

    An addition, say, would hand its whole relevance to both summands. The normalisation of grey values before the first
    layer scales it too, which :attr:`Prepared.slope` undoes: the relevance of a window is that of the normalised one.
    """
    copied = one_call_each(network, example)
    _, calls = trial_run(copied, example)
    # captum has no rule for identities and whatever is not called, as a loss, but knows dropout, which does nothing.
    idle = [leaf for leaf in leaves(copied) if type(leaf) is nn.Identity or not calls[leaf]]
    replace(copied, {leaf: nn.Dropout(0.0).eval() for leaf in idle})
    steps = operations(copied, example)
    before = len(list(takewhile(lambda step: not step.leaf, steps)))
    unknown = [leaf for leaf in leaves(copied) if type(leaf) not in _RELEVANCE]
    wrong = [
        step
        for place, step in enumerate(steps)
        if not (
            step.module in _RELEVANCE or step.copies or (place < before and step.affine and step.name in _NORMALISATION)
        )
    ]
    if wrong or unknown:
        kinds = sorted({type(leaf).__name__ for leaf in unknown})
        raise UserError(
            f"{method} has rules for a few kinds of layers only ({_kinds(_RELEVANCE)}), joined without arithmetic, but "
            f"this network has {_listed(wrong) if wrong else ', '.join(kinds)}: take captum.attr.InputXGradient, which "
            "captum's rules for LRP come down to in networks of ReLUs and max pools, or captum.attr.DeepLift; "
            "for an output after a sigmoid, attribute the logit"
        )
    return Prepared(copied, _entry_slope(method, copied, example))


def _entry_slope(method: str, network: nn.Module, example: Tensor) -> Tensor:
    """Change of what enters the first layer with the window ``(1, C, *S)``, every value of which enters once."""
    entered: list[Tensor] = []

    def cut(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if entered:
            return None
        entered.append(inputs[0])
        return (inputs[0].detach().requires_grad_(), *inputs[1:])

    # Dropout does nothing, so that the normalisation may go on behind it.
    layers = [leaf for leaf in leaves(network) if not isinstance(leaf, nn.Dropout)]
    handles = [layer.register_forward_pre_hook(cut) for layer in layers]
    try:
        with torch.enable_grad():
            window = example.detach().clone().requires_grad_()
            answers = network(window)
            beside: tuple[Tensor | None, ...] = torch.autograd.grad(answers.sum(), window, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    if beside[0] is None and [values.numel() for values in entered] == [example.numel()]:
        (slope,) = torch.autograd.grad(entered[0].sum(), window)
        if slope.all():
            return slope
    raise UserError(
        f"{method} needs the whole image to enter the network at one layer alone: take captum.attr.InputXGradient"
    )


def _listed(steps: Iterable[Operation]) -> str:
    names = list(dict.fromkeys(str(step) for step in steps))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _kinds(modules: Iterable[type[nn.Module]]) -> str:
    return ", ".join(sorted(module.__name__ for module in modules))


_PREPARATIONS: Mapping[type[Attribution], Preparation] = {
    DeepLift: _for_non_linear_modules,
    GuidedBackprop: _for_non_linear_modules,
    Deconvolution: _for_non_linear_modules,
    LRP: _for_relevance,
}
