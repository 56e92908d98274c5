"""Copies of networks on which captum's methods that hook modules are right, or the reason why there is none."""

import copy
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from captum.attr import Attribution, Deconvolution, DeepLift, GuidedBackprop
from torch import Tensor, finfo, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from data_modules.errors import UserError

_HOOKING = (DeepLift, GuidedBackprop, Deconvolution)
# Those that captum's DeepLift has rules for. Its rule for softmax takes the mean over all outputs at once, which is one
# sample's classes only for classifiers.
_POOLS: dict[type[nn.Module], int] = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}
_NON_LINEAR = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, *_POOLS)
# In ATen, without overload and in-place underscore. What is not listed counts as non-linear.
_AFFINE = re.compile(
    r"_to_copy|_unsafe_view|alias|as_strided|cat|clone|constant_pad_nd|copy|expand|flip|permute|pixel_shuffle|roll|"
    r"select|slice|split|split_with_sizes|squeeze|stack|t|transpose|unbind|unfold|unsqueeze|upsample_nearest[123]d|"
    r"view|add|sub|rsub|neg|mean|sum|cumsum|index_select|(_?adaptive_)?avg_pool[123]d|_adaptive_avg_pool[23]d|"
    r"(reflection|replication)_pad[123]d|_?upsample_(bi|tri)?(linear|cubic)[123]d(_aa)?"
)
# Affine in one of their arguments, as long as the others do not depend on the network's input.
_PRODUCTS = re.compile(r"addmm|bmm|convolution|mm|mul|mv")
_OF_THE_FIRST = re.compile(r"_native_batch_norm_legit_no_training|div|(native|cudnn|miopen)_batch_norm")
_USES_BATCH = 5
"""Position of the argument of batch norms that says whether they use the statistics of the batch."""

NonLinearStep = tuple[str, str, type[nn.Module]]
"""Name in ATen, e.g. ``relu``; path and kind of the innermost module that was running."""


def prepare_network(method: type[Attribution], network: nn.Module, example: Tensor) -> nn.Module:
    """Make a network ready for a method of captum; only DeepLift, GuidedBackprop and Deconvolution need a copy.

    They hook modules and take all else for linear, without a word.

    Args:
        method: Class of ``captum.attr``.
        network: Network in evaluation mode from ``(B, C, *S)`` to ``(B, N)``; never changed.
        example: Window ``(1, C, *S)`` on the network's device; a trial run of it shows what the network does.

    Raises:
        UserError: if the method would be wrong on this network.
    """
    if not issubclass(method, _HOOKING):
        return network
    copied = call_modules_once(network, example)
    wrong = [step for step in find_nonlinear_steps(copied, example) if step[2] not in _NON_LINEAR]
    if wrong:
        # Autograd detaches what non-linear steps keep for their gradient; only alone does it say something.
        named = [step for step in wrong if step[0] != "detach"] or wrong
        # Whatever wraps a network calls it so.
        paths = [re.sub(r"^0\.?(network(\.|$))*", "", path) or "the network" for _, path, _ in named]
        steps = [f"{name} in {path} ({kind.__name__})" for (name, _, kind), path in zip(named, paths, strict=True)]
        steps = list(dict.fromkeys(steps))
        raise UserError(
            f"{method.__name__} treats non-linear steps right only where each is a module of its own that captum knows "
            f"({', '.join(sorted(kind.__name__ for kind in _NON_LINEAR))}), but this network has "
            f"{', '.join(steps[:3])}{f' and {len(steps) - 3} more' if len(steps) > 3 else ''}: take "
            "captum.attr.InputXGradient or captum.attr.IntegratedGradients, which need no modules"
        )
    separate_pool_windows(copied)
    return copied


def call_modules_once(network: nn.Module, example: Tensor) -> nn.Module:
    """Copy a network so that captum can hook its modules.

    Captum keeps one input and one output a module, and takes the gradient at the tensor that enters it for the module's
    own. So in the copy, which is in evaluation mode and has no trainable parameters,

    - nothing works in place;
    - a module without children that is called n > 1 times is n modules (each with its own weights), taken in turn;
    - every module without children has its input to itself: where a U-Net pools a feature map and hands it to its
      decoder too, either the rule for the pool or the decoder's share of the gradient would otherwise be lost,
      without a word.

    Args:
        network: Network from ``(B, …)`` to one tensor. It is not changed, nor called.
        example: Input ``(B, …)`` on the network's device; the calls are counted in one forward pass of it.

    Returns:
        The copy, inside a module that begins each forward pass anew, also after one that failed.

    Raises:
        UserError: if the copy's answers differ from the network's, e.g. because it relies on working in place.
    """
    name = type(network).__name__
    root = nn.Sequential(copy.deepcopy(network)).eval().requires_grad_(False)
    calls: Counter[nn.Module] = Counter()
    handles = [leaf.register_forward_pre_hook(lambda module, _: calls.update([module])) for leaf in _leaves(root)]
    with torch.no_grad():
        expected: Tensor = root(example.clone())
    for handle in handles:
        handle.remove()
    for module in root.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
    _replace(root, {leaf: _InTurn(leaf, number) for leaf, number in calls.items() if number > 1})
    for leaf in _leaves(root):
        leaf.register_forward_pre_hook(_clone_inputs)
    root.register_forward_pre_hook(_begin_anew)
    try:
        with torch.no_grad():
            answers = root(example.clone())
    except AttributeError as error:
        raise UserError(
            f"{name} reads attributes of a module that it calls several times ({error}), so captum's methods that hook "
            "modules cannot be used on it: take InputXGradient or IntegratedGradients"
        ) from None
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    if not torch.allclose(answers, expected, rtol=1e-5, atol=1e-6 * scale, equal_nan=True):
        raise UserError(
            f"{name} answers otherwise once no module works in place or is called twice, so captum's methods that hook "
            "modules cannot be used on it: take InputXGradient or IntegratedGradients"
        )
    return root


class _InTurn(nn.Module):
    """Copies of one module; the k-th call of a forward pass goes to the k-th."""

    def __init__(self, module: nn.Module, number: int) -> None:
        super().__init__()
        self.calls = nn.ModuleList(copy.deepcopy(module) for _ in range(number))
        self.position = 0

    def forward(self, *inputs: Any, **options: Any) -> Any:
        if self.position == len(self.calls):
            raise UserError(
                f"a {type(self.calls[0]).__name__} is called more than {len(self.calls)} times, which is how often it "
                "was called in the trial run: the network's course depends on its input, which captum's methods that "
                "hook modules cannot follow; take InputXGradient or IntegratedGradients"
            )
        self.position += 1
        return self.calls[self.position - 1](*inputs, **options)


def _begin_anew(root: nn.Module, inputs: tuple[Any, ...]) -> None:
    for module in root.modules():
        if isinstance(module, _InTurn):
            module.position = 0


def _clone_inputs(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.clone() if isinstance(each, Tensor) else each for each in inputs)


def _leaves(network: nn.Module) -> list[nn.Module]:
    """List modules without children, each once."""
    return [module for module in network.modules() if not any(True for _ in module.children())]


def _replace(network: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
    """Put modules in the place of others, wherever below ``network`` they are registered."""
    for parent in list(network.modules()):
        # `named_children` leaves out the second name of a module that has two.
        for name, child in list(parent._modules.items()):
            if child is not None and child in new and parent is not new[child]:
                parent._modules[name] = new[child]


def separate_pool_windows(network: nn.Module) -> None:
    """Lay the windows of all overlapping max pools of a network side by side before they are pooled.

    The answers stay the same to the bit. Captum's rule for max pooling (DeepLIFT: the change of a maximum belongs to
    the input that attains it) sends the change back with ``max_unpool``, which keeps only one share where an input is
    the maximum of several windows, as in the 3×3 pooling with stride 2 of every ResNet; between disjoint windows
    there is nothing to drop.

    Args:
        network: Network that is changed.

    Raises:
        UserError: if an overlapping pool is dilated or rounds its size up.
    """
    disjoint: dict[nn.Module, nn.Module] = {}
    for pool in _leaves(network):
        if not isinstance(pool, nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d):
            continue
        given, axes = (pool.kernel_size, pool.stride, pool.padding, pool.dilation), _POOLS[type(pool)]
        kernel, stride, padding, dilation = ((value,) * axes if isinstance(value, int) else value for value in given)
        if all((k - 1) * d + 1 <= step for k, d, step in zip(kernel, dilation, stride, strict=True)):
            continue
        if set(dilation) != {1} or pool.ceil_mode or pool.return_indices:
            raise UserError(
                f"DeepLift: {pool} overlaps and is dilated, rounds up or returns indices, which captum's rule for max "
                "pooling gets wrong: take InputXGradient or IntegratedGradients"
            )
        disjoint[pool] = nn.Sequential(_PoolWindows(kernel, stride, padding), type(pool)(kernel, kernel))
    _replace(network, disjoint)


class _PoolWindows(nn.Module):
    """Windows of an image laid side by side: ``(B, C, *S)`` to ``(B, C, *(n·k))`` for n windows of k px an axis."""

    def __init__(self, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, image: Tensor) -> Tensor:
        # Infinity would give NaN as difference between input and baseline.
        around = [side for side in reversed(self.padding) for _ in range(2)]
        windows = F.pad(image, around, value=finfo(image.dtype).min)
        rank = len(self.kernel)
        for axis in range(rank):
            windows = windows.unfold(2 + axis, self.kernel[axis], self.stride[axis])
        counts = windows.shape[2 : 2 + rank]
        paired = [place for axis in range(rank) for place in (2 + axis, 2 + rank + axis)]
        sides = [count * side for count, side in zip(counts, self.kernel, strict=True)]
        return windows.permute(0, 1, *paired).reshape(*image.shape[:2], *sides)


def find_nonlinear_steps(network: nn.Module, example: Tensor) -> list[NonLinearStep]:
    """Run a network once and list what it computes from its input and is not known to be affine in it, in order.

    Args:
        network: Network in evaluation mode and without trainable parameters, from ``(B, …)`` to a tensor.
        example: Input ``(B, …)`` on the network's device.
    """
    running: list[tuple[str, nn.Module]] = [("", network)]
    recorder = _Recorder(running)

    def push(path: str) -> Callable[..., None]:
        return lambda module, _: running.append((path, module))

    handles = []
    for path, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(push(path)))
        handles.append(module.register_forward_hook(lambda *_: running.pop() and None))
    try:
        with torch.enable_grad(), recorder:
            network(example.detach().clone().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    return recorder.steps


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps non-linear operations on tensors that require a gradient, as all that depends on the input does."""

    def __init__(self, running: list[tuple[str, nn.Module]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running = running
        self.steps: list[NonLinearStep] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        dependent = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor) and each.requires_grad]
        results = func(*args, **(kwargs or {}))
        name = str(func.name()).split("::")[-1].split(".")[0].rstrip("_")
        if _PRODUCTS.fullmatch(name):
            affine = len(dependent) == 1
        elif _OF_THE_FIRST.fullmatch(name):
            uses_batch = name.endswith("batch_norm") and bool(args[_USES_BATCH])
            affine = len(dependent) == 1 and args[0].requires_grad and not uses_batch
        else:
            affine = _AFFINE.fullmatch(name) is not None
        # Comparisons and roundings give other types, which carry no gradient.
        smooth = all(each.is_floating_point() for each in tree_leaves(results) if isinstance(each, Tensor))
        if dependent and not (affine and smooth):
            path, module = self.running[-1]
            self.steps.append((name, path, type(module)))
        return results
