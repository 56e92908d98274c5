"""What a network computes on the way from its input to its answer, step by step, and which steps are linear."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# In ATen, without overload and in-place underscore. What is not listed counts as non-linear.
_COPYING = re.compile(
    r"_to_copy|_unsafe_view|alias|as_strided|cat|clone|constant_pad_nd|copy|expand|flip|permute|pixel_shuffle|roll|"
    r"select|slice|split|split_with_sizes|squeeze|stack|t|transpose|unbind|unfold|unsqueeze|upsample_nearest[123]d|view"
)
_AFFINE = re.compile(
    r"add|sub|rsub|neg|mean|sum|cumsum|index_select|(_?adaptive_)?avg_pool[123]d|_adaptive_avg_pool[23]d|"
    r"(reflection|replication)_pad[123]d|_?upsample_(bi|tri)?(linear|cubic)[123]d(_aa)?"
)
# Affine in one of their arguments, as long as the others do not depend on the network's input.
_PRODUCTS = re.compile(r"addmm|bmm|convolution|mm|mul|mv")
_OF_THE_FIRST = re.compile(r"_native_batch_norm_legit_no_training|div|(native|cudnn|miopen)_batch_norm")
_USES_BATCH = 5
"""Position of the argument of batch norms that says whether they use the statistics of the batch."""


@dataclass(frozen=True)
class Operation:
    """One operation whose input depends on the network's.

    Attributes:
        name: In ATen, without overload and in-place underscore, e.g. ``relu``.
        copies: Whether its results are copies of single input values, or constants.
        affine: Whether it is affine in the network's input for any values, as far as is known.
        module: Kind of the innermost module that was running.
        path: Name of that module in the network, empty for the network itself.
        leaf: Whether that module has no children.
    """

    name: str
    copies: bool
    affine: bool
    module: type[nn.Module]
    path: str
    leaf: bool

    def __str__(self) -> str:
        # Whatever wraps a network calls it so.
        path = re.sub(r"^(network(\.|$))+", "", self.path)
        return f"{self.name} in {path or 'the network'} ({self.module.__name__})"


def operations(network: nn.Module, example: Tensor) -> list[Operation]:
    """Run a network once and list what it computes from its input, in order.

    Args:
        network: In evaluation mode and without trainable parameters, from ``(B, …)`` to a tensor.
        example: ``(B, …)`` on the network's device.
    """
    running: list[tuple[str, nn.Module]] = [("", network)]
    recorder = _Recorder(running)
    handles = []
    for path, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(_push(running, path)))
        handles.append(module.register_forward_hook(lambda *_: running.pop() and None))
    try:
        with torch.enable_grad(), recorder:
            network(example.detach().clone().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    return recorder.seen


def _push(running: list[tuple[str, nn.Module]], path: str) -> Callable[..., None]:
    def push(module: nn.Module, *_: Any) -> None:
        running.append((path, module))

    return push


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps every operation on a tensor that requires a gradient, as all that depends on the input does."""

    def __init__(self, running: list[tuple[str, nn.Module]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running = running
        self.seen: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        dependent = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor) and each.requires_grad]
        results = func(*args, **(kwargs or {}))
        if dependent:
            name = str(func.name()).split("::")[-1].split(".")[0].rstrip("_")
            # Comparisons and roundings give other types, which carry no gradient.
            smooth = all(each.is_floating_point() for each in tree_leaves(results) if isinstance(each, Tensor))
            copies = smooth and bool(_COPYING.fullmatch(name))
            affine = copies or (smooth and _is_affine(name, args, len(dependent)))
            path, module = self.running[-1]
            leaf = not any(True for _ in module.children())
            self.seen.append(Operation(name, copies, affine, type(module), path, leaf))
        return results


def _is_affine(name: str, args: Any, dependent: int) -> bool:
    if _PRODUCTS.fullmatch(name):
        return dependent == 1
    if _OF_THE_FIRST.fullmatch(name):
        uses_batch = name.endswith("batch_norm") and bool(args[_USES_BATCH])
        return dependent == 1 and bool(args[0].requires_grad) and not uses_batch
    return bool(_AFFINE.fullmatch(name))
