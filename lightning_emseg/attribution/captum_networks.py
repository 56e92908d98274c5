"""Copies of networks on which captum's methods that hook modules are right, or the reason why there is none."""

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
import torch.nn.functional as F
from captum.attr import LRP, Attribution, Deconvolution, DeepLift, GuidedBackprop
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR
from captum.attr._core.lrp import SUPPORTED_LAYERS_WITH_RULES, SUPPORTED_NON_LINEAR_LAYERS
from torch import Tensor, finfo, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


Pool = nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d
_AXES: dict[type[nn.Module], int] = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}


def separate_windows(network: nn.Module) -> None:
    """Lay the windows of all overlapping max pools of a network side by side before they are pooled.

    The answers stay the same to the bit. captum's rule for max pooling (DeepLIFT: the change of a maximum belongs to
    the input that attains it) sends the change back with ``max_unpool``, which keeps only one share where an input is
    the maximum of several windows, as in the 3×3 pooling with stride 2 of every ResNet; between disjoint windows
    there is nothing to drop.

    Args:
        network: Changed.

    Raises:
        UserError: if an overlapping pool is dilated or rounds its size up.
    """
    pools = [leaf for leaf in leaves(network) if isinstance(leaf, Pool) and _overlaps(leaf)]
    replace(network, {pool: _disjoint(pool) for pool in pools})


class _Windows(nn.Module):
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


def _disjoint(pool: nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d) -> nn.Module:
    kernel, stride, padding, dilation = _sizes(pool)
    if set(dilation) != {1} or pool.ceil_mode or pool.return_indices:
        raise UserError(
            f"DeepLift: {pool} overlaps and is dilated, rounds up or returns indices, which captum's rule for max "
            "pooling gets wrong: take InputXGradient or IntegratedGradients"
        )
    return nn.Sequential(_Windows(kernel, stride, padding), type(pool)(kernel, kernel))


def _overlaps(pool: nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d) -> bool:
    kernel, stride, _, dilation = _sizes(pool)
    reach = [(size - 1) * apart + 1 for size, apart in zip(kernel, dilation, strict=True)]
    return any(size > step for size, step in zip(reach, stride, strict=True))


def _sizes(pool: nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d) -> list[tuple[int, ...]]:
    axes = _AXES[type(pool)]
    given = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    return [(value,) * axes if isinstance(value, int) else tuple(value) for value in given]


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
