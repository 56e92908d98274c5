"""Copies of a network in which every module is called once a forward pass, as methods that hook modules need them."""

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from data_modules.errors import UserError


def one_call_each(network: nn.Module, example: Tensor) -> nn.Module:
    """Copy a network so that captum's DeepLift, LRP and guided backpropagation can hook its modules.

    They keep one input and one output a module, and take the gradient at the tensor that enters it for the module's
    own. So in the copy, which is in evaluation mode and has no trainable parameters,

    - nothing works in place;
    - a module without children that is called n > 1 times is n modules (each with its own weights), taken in turn;
    - every module without children has its input to itself: where a U-Net pools a feature map and hands it to its
      decoder too, either the rule for the pool or the decoder's share of the gradient would otherwise be lost,
      without a word.

    Args:
        network: From ``(B, …)`` to one tensor. It is not changed, nor called.
        example: ``(B, …)`` on the network's device; the calls are counted in one forward pass of it.

    Returns:
        The copy, inside a module that begins each forward pass anew, also after one that failed.

    Raises:
        UserError: if the copy's answers differ from the network's, e.g. because it relies on working in place.
    """
    root = _Rewound(copy.deepcopy(network)).eval().requires_grad_(False)
    expected, calls = trial_run(root, example)
    for module in root.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
    replace(root, {leaf: _InTurn(leaf, number) for leaf, number in calls.items() if number > 1})
    for leaf in leaves(root):
        leaf.register_forward_pre_hook(_own_input)
    try:
        with torch.no_grad():
            answers = root(example.clone())
    except AttributeError as error:
        raise UserError(
            f"{_name(network)} reads attributes of a module that it calls several times ({error}), so captum's "
            "methods that hook modules cannot be used on it: take InputXGradient or IntegratedGradients"
        ) from None
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    if not torch.allclose(answers, expected, rtol=1e-5, atol=1e-6 * scale, equal_nan=True):
        raise UserError(
            f"{_name(network)} answers otherwise once no module works in place or is called twice, so captum's methods "
            "that hook modules cannot be used on it: take InputXGradient or IntegratedGradients"
        )
    return root


def leaves(network: nn.Module) -> list[nn.Module]:
    """Modules without children, each once."""
    return [module for module in network.modules() if not any(True for _ in module.children())]


def replace(network: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
    """Put modules in the place of others, wherever below ``network`` they are registered."""
    for parent in list(network.modules()):
        # `named_children` leaves out the second name of a module that has two.
        for name, child in list(parent._modules.items()):
            if child is not None and child in new and parent is not new[child]:
                parent._modules[name] = new[child]


class _InTurn(nn.Module):
    """Copies of one module; the k-th call of a forward pass goes to the k-th."""

    def __init__(self, module: nn.Module, number: int) -> None:
        super().__init__()
        self.calls = nn.ModuleList(copy.deepcopy(module) for _ in range(number))
        self.position = 0

    def forward(self, *inputs: Any, **options: Any) -> Any:
        if self.position == len(self.calls):
            raise UserError(
                f"a {_name(self.calls[0])} is called more than {len(self.calls)} times, which is how often it was "
                "called in the trial run: the network's course depends on its input, which captum's methods that "
                "hook modules cannot follow; take InputXGradient or IntegratedGradients"
            )
        self.position += 1
        return self.calls[self.position - 1](*inputs, **options)


class _Rewound(nn.Module):
    """A network whose modules begin with their first call at every forward pass."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Any) -> Any:
        for module in self.modules():
            if isinstance(module, _InTurn):
                module.position = 0
        return self.network(*inputs)


def _own_input(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.clone() if isinstance(each, Tensor) else each for each in inputs)


def trial_run(network: nn.Module, example: Tensor) -> tuple[Tensor, Counter[nn.Module]]:
    """Answers to ``example``, and how often every module without children was called."""
    calls: Counter[nn.Module] = Counter()

    def count(module: nn.Module, *_: Any) -> None:
        calls[module] += 1

    handles = [leaf.register_forward_pre_hook(count) for leaf in leaves(network)]
    with torch.no_grad():
        answers: Tensor = network(example.clone())
    for handle in handles:
        handle.remove()
    return answers, calls


def _name(module: nn.Module) -> str:
    return type(module).__name__
