"""The straight path from a baseline to an image, and the gradients along it."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from captum.attr._utils.approximation_methods import approximation_parameters
from torch import Tensor, nn

from lightning_emseg.attribution.arithmetic import single_precision

Rule = Literal["riemann_middle", "riemann_trapezoid", "riemann_left", "riemann_right", "gausslegendre"]
Precision = Literal["32", "bf16"]
# Larger batches are slower on a CPU, whose caches they leave; an accelerator wants more, and its memory allows this.
_BATCH_PX = {"cpu": 2**18, "cuda": 2**22}
_GROUPS_AT_ONCE = 64


@dataclass(frozen=True)
class Path:
    """How the integral over the path is approximated.

    Attributes:
        steps: Points on the path, at least 2; 100 in the published code of U-RISC.
        rule: Where they lie and how they are weighted, as captum names it.
        precision: ``bf16`` computes in 16-bit brain floats where autocast finds them safe.
    """

    steps: int = 100
    rule: Rule = "riemann_middle"
    precision: Precision = "32"

    def nodes(self) -> list[tuple[float, float]]:
        """Positions on the path, 0 at the baseline and 1 at the image, with their weights, which sum to 1."""
        sizes, alphas = approximation_parameters(self.rule)
        weights = sizes(self.steps)
        # Captum's trapezoids are 1/n wide although n points are 1/(n − 1) apart: every field would be 1/n too small.
        whole = sum(weights)
        return [(alpha, weight / whole) for alpha, weight in zip(alphas(self.steps), weights, strict=True)]

    def arithmetic(self, device: torch.device) -> AbstractContextManager[object]:
        """The context that the network runs in, whatever was around it."""
        return torch.autocast(device.type, torch.bfloat16) if self.precision == "bf16" else single_precision(device)


def path_attributions(
    answers: nn.Module, image: Tensor, baseline: Tensor, groups: Sequence[Tensor], path: Path
) -> Tensor:
    """Integrated gradients of sums of pixels (Sundararajan et al. 2017; Shi et al. 2021, eqs. 7–9).

    ``A_i = (x_i − x'_i) · Σ_s weight_s · ∂ Σ_p F_p(x' + α_s (x − x')) / ∂x_i``, summed over channels. The forward pass
    of a step is shared by all groups.

    Args:
        answers: :class:`~lightning_emseg.attribution.outputs.PixelOutput` whose parameters need no gradient.
        image: ``float (C, *S)``, grey levels 0–255, on the network's device.
        baseline: Likewise.
        groups: ``int64 (n,)`` each: the pixels of one sum, as positions in the flattened window.
        path: Of integration.

    Returns:
        ``float32 (len(groups), *S)`` on the CPU.
    """
    fields = [
        _of_some(answers, image, baseline, groups[first : first + _GROUPS_AT_ONCE], path)
        for first in range(0, len(groups), _GROUPS_AT_ONCE)
    ]
    return torch.cat(fields) if fields else torch.empty(0, *image.shape[1:])


def _of_some(answers: nn.Module, image: Tensor, baseline: Tensor, groups: Sequence[Tensor], path: Path) -> Tensor:
    # Inside `validate` Lightning is in inference mode, which no gradient survives.
    with torch.inference_mode(False), torch.enable_grad(), path.arithmetic(image.device):
        difference = image - baseline
        sums = torch.zeros(len(groups), *image.shape[1:], device=image.device)
        for alphas, weights in _batches(path, image):
            shape = (-1, *(1,) * image.ndim)
            points = (baseline + alphas.view(shape) * difference).requires_grad_()
            found = answers(points)
            for index, group in enumerate(groups):
                pull = torch.zeros_like(found)
                pull[:, group.to(image.device)] = weights[:, None].to(found.dtype)
                (gradient,) = torch.autograd.grad(found, points, pull, retain_graph=index < len(groups) - 1)
                sums[index] += (gradient * difference).sum(dim=(0, 1))
    return sums.cpu()


def _batches(path: Path, image: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    nodes = path.nodes()
    batch = max(1, _BATCH_PX.get(image.device.type, _BATCH_PX["cuda"]) // image[0].numel())
    for first in range(0, len(nodes), batch):
        some = torch.tensor(nodes[first : first + batch], dtype=torch.float32, device=image.device)
        yield some[:, 0], some[:, 1]


def answers_at(answers: nn.Module, window: Tensor, pixels: Tensor) -> Tensor:
    """The network's answers ``float32 (P,)`` at flat positions ``pixels`` of a window ``(C, *S)``, on the CPU."""
    with torch.inference_mode(False), torch.no_grad(), single_precision(window.device):
        found: Tensor = answers(window[None])[0, pixels.to(window.device)].float().cpu()
    return found
