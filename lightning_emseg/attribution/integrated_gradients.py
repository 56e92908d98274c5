"""Integrated gradients of many pixels: the settings, and how the exact and the fast path are chosen."""

import math
import operator
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from data_modules.errors import UserError
from data_modules.geometry import Shape
from lightning_emseg.attribution.areas import effective_reach
from lightning_emseg.attribution.fields import (
    IntegrationPath,
    PathRule,
    Precision,
    cuts_are_safe,
    exact_fields,
    exact_groups,
    noise_for,
    shared_fields,
)
from lightning_emseg.attribution.method import AttributionMethod, BoundMethod, Field
from lightning_emseg.attribution.network import Output, PixelOutput, fold_batch_norms, receptive_radius, refuse_training
from lightning_emseg.attribution.points import group_pixels
from lightning_emseg.attribution.windows import Baseline

# Pixels of a pass this many times further apart than fields reach share it at 3 % error of S_k (docs/attribution.md).
_APART = 1.25


class IntegratedGradients(AttributionMethod):
    """Integrated gradients (Sundararajan et al. 2017), the attribution of U-RISC (Shi et al. 2021, eqs. 7–9).

    Args:
        steps: Points on the path, at least 2; 100 in the published code.
        rule: How the integral is approximated, as captum names it.
        output: Whether the ``logit`` or the ``probability`` at a pixel is attributed.
        baseline: Beginning of the path: ``noise``, ``zero``, ``mean`` or ``blurred``.
        exact: Whether every field is exact. Otherwise pixels that are far apart share backward passes; the error of
            that is measured in every run.
        reach: Distance from the pixel at which fast fields are cut off, in px; by default that within which exact
            fields of a few pixels have 99 % of their area.
        precision: ``bf16`` computes fast fields in 16-bit brain floats, where the hardware has them; its error is
            measured with the other.

    Raises:
        UserError: if ``steps`` is below 2 or ``reach`` below 1.
    """

    def __init__(
        self,
        steps: int = 100,
        rule: PathRule = "riemann_middle",
        output: Output = "logit",
        baseline: Baseline = "noise",
        exact: bool = False,
        reach: int | None = None,
        precision: Precision = "32",
    ) -> None:
        if steps < 2:
            raise UserError(f"IntegratedGradients: steps must be at least 2, but is {steps}; 100 is usual")
        if reach is not None and reach < 1:
            raise UserError(
                f"IntegratedGradients: reach must be at least 1 px, but is {reach}; leave it out to measure it"
            )
        self.steps, self.rule, self.output, self.baseline = steps, rule, output, baseline
        self.exact, self.reach, self.precision = exact, reach, precision
        self.passes = 3 * steps

    def bind(self, network: nn.Module, stride: int | Sequence[int]) -> "BoundIntegratedGradients":
        """Prepare for one network; see :meth:`AttributionMethod.bind`."""
        refuse_training(network)
        return BoundIntegratedGradients(self, network, stride)


class BoundIntegratedGradients(BoundMethod):
    """Integrated gradients of one network.

    Args:
        method: The settings.
        network: Network as in :meth:`AttributionMethod.bind`.
        stride: Multiple that the sides of its windows must have, one for all axes or one an axis.
    """

    def __init__(self, method: IntegratedGradients, network: nn.Module, stride: int | Sequence[int]) -> None:
        self.method, self._network, self._stride = method, network, stride
        self._radii: dict[Shape, Shape | None] = {}
        self._safe: dict[Shape, bool] = {}
        self._fast: PixelOutput | None = None

    def fields(
        self, image: Tensor, baseline: Tensor, pixels: Sequence[Shape], together: Sequence[Sequence[int]]
    ) -> list[Field]:
        """Compute fast fields, or exact ones where these are asked for, or where nothing is known of their reach."""
        reach = self._reach(image.ndim - 1)
        if reach is None or self._is_exact(reach, image.shape):
            return self._exact(image, baseline, pixels, together)
        if self._fast is None:
            # Noise, as a process must not decide by the window that it happens to see first.
            example = noise_for(self._network, image.shape)[None]
            self._fast = PixelOutput(fold_batch_norms(self._network, example), self.method.output)
        path = IntegrationPath(self.method.steps, self.method.rule, self.method.precision)
        return shared_fields(self._fast, image, baseline, pixels, together, path, reach)

    def groups(self, pixels: Sequence[Shape], shape: Sequence[int]) -> list[list[int]]:
        """Group pixels that are further apart than their fields reach; see :meth:`BoundMethod.groups`."""
        reach = self._reach(len(shape) - 1)
        if reach is None or self._is_exact(reach, shape):
            return exact_groups(pixels, shape[1:], self._radius(shape), self._stride, self._cuts(shape))
        return group_pixels(pixels, tuple(math.ceil(_APART * each) for each in reach))

    def exact_fields(self, image: Tensor, baseline: Tensor, pixels: Sequence[Shape]) -> list[Field] | None:
        """Compute exact fields in single precision; ``None`` where :meth:`fields` gives no others."""
        alone = [[index] for index in range(len(pixels))]
        return None if self.method.exact else self._exact(image, baseline, pixels, alone)

    def _exact(
        self, image: Tensor, baseline: Tensor, pixels: Sequence[Shape], together: Sequence[Sequence[int]]
    ) -> list[Field]:
        answers = PixelOutput(self._network, self.method.output)
        path = IntegrationPath(self.method.steps, self.method.rule)
        radius, cuts = self._radius(image.shape), self._cuts(image.shape)
        return exact_fields(answers, image, baseline, pixels, together, path, radius, self._stride, cuts)

    def _is_exact(self, reach: Shape, shape: Sequence[int]) -> bool:
        """Tell whether fields are exact: by the settings, or since the reach covers the receptive field."""
        radius = self._radius(shape)
        return self.method.exact or (radius is not None and all(map(operator.le, radius, reach)))

    def calibrate(self, exact: Sequence[Field], threshold: float) -> None:
        """Measure the reach, unless it is given."""
        if exact and self.method.reach is None:
            self.reach = effective_reach(exact, threshold)

    @property
    def record(self) -> dict[str, Any]:
        """Settings, reach and receptive radii."""
        # One number where it is the same along all axes.
        reach = self.reach and (self.reach[0] if len(set(self.reach)) == 1 else list(self.reach))
        settings = {name: getattr(self.method, name) for name in ("steps", "rule", "output", "baseline", "exact")}
        return {
            "method": "integrated gradients",
            **settings,
            "precision": self.method.precision,
            "reach_px": self.method.reach or reach,
            "receptive_radius_px": {" × ".join(map(str, shape)): radius for shape, radius in self._radii.items()},
        }

    def _reach(self, axes: int) -> Shape | None:
        return (self.method.reach,) * axes if self.method.reach else self.reach

    def _radius(self, shape: Sequence[int]) -> Shape | None:
        """Measure the receptive radius in windows of shape ``(C, *S)``."""
        channels, *sides = shape
        if tuple(sides) not in self._radii:
            self._radii[tuple(sides)] = receptive_radius(self._network, sides, channels, self._stride)
        return self._radii[tuple(sides)]

    def _cuts(self, shape: Sequence[int]) -> bool:
        """Tell whether windows of shape ``(C, *S)`` may be cut."""
        sides, radius = tuple(shape[1:]), self._radius(shape)
        if sides not in self._safe:
            self._safe[sides] = radius is not None and cuts_are_safe(self._network, shape, radius, self._stride)
        return self._safe[sides]
