"""What every attribution method is: a few settings, and, bound to a network, fields of the pixels of a window."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from data_modules.geometry import Shape
from lightning_emseg.attribution.network import Output
from lightning_emseg.attribution.windows import Baseline

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Field:
    """Attribution field of the answer at one pixel.

    Attributes:
        pixel: Position in the window, in px.
        origin: First pixel of ``values`` in the window.
        values: Attributions ``float32``, one a window pixel; outside of them the field is zero, or taken for it.
        output: F(x), the answer on the image.
        baseline_output: F(x'), the answer on the baseline.
    """

    pixel: Shape
    origin: Shape
    values: Values
    output: float
    baseline_output: float

    @property
    def completeness_error(self) -> float:
        """``|Σ A − (F(x) − F(x'))|``."""
        return abs(float(self.values.sum(dtype=np.float64)) - (self.output - self.baseline_output))

    def whole(self, shape: Sequence[int]) -> Values:
        """Fill a window of ``shape`` px with the field."""
        values = np.zeros(shape, np.float32)
        values[tuple(slice(o, o + n) for o, n in zip(self.origin, self.values.shape, strict=True))] = self.values
        return values


class BoundMethod(ABC):
    """A method and the network that it explains.

    Attributes:
        reach: Distance in px at which :meth:`fields` cuts off, one value an axis; ``None`` where it does not, or where
            :meth:`calibrate` has not found out yet.
    """

    reach: Shape | None = None

    @abstractmethod
    def fields(
        self, image: Tensor, baseline: Tensor, pixels: Sequence[Shape], together: Sequence[Sequence[int]]
    ) -> list[Field]:
        """Attribute the answers at some pixels of a window.

        Args:
            image: ``float (C, *S)``, grey levels 0–255, on the network's device.
            baseline: Baseline of the same shape.
            pixels: Positions in the window, in px.
            together: Positions in ``pixels``; all groups of :meth:`groups`, or some of them. A field depends on its own
                group only, so that several processes together compute the fields of one.
        """

    def groups(self, pixels: Sequence[Shape], shape: Sequence[int]) -> list[list[int]]:
        """Partition the pixels of a window into groups that share a pass; each pixel is alone where none do.

        Args:
            pixels: All pixels of the window that are attributed, in px.
            shape: Shape ``(C, *S)`` of the window.

        Returns:
            Positions in ``pixels``.
        """
        return [[index] for index in range(len(pixels))]

    def exact_fields(self, image: Tensor, baseline: Tensor, pixels: Sequence[Shape]) -> list[Field] | None:
        """Compute fields without any approximation in space; ``None`` where :meth:`fields` makes none."""
        return None

    def calibrate(self, exact: Sequence[Field], threshold: float) -> None:
        """Learn from exact fields what :meth:`fields` needs to know; a method that needs nothing learns nothing.

        Args:
            exact: Exact fields from :meth:`exact_fields`.
            threshold: The smallest k of interest.
        """
        return

    @property
    @abstractmethod
    def record(self) -> dict[str, Any]:
        """JSON-ready account of everything that the fields depend on, the network and the windows aside."""


class AttributionMethod(ABC):
    """Settings of a method; the base of what YAML can name by ``class_path``.

    Attributes:
        output: Attributed output, ``logit`` or ``probability``.
        baseline: Baseline of methods that compare the image with one.
        passes: Forward passes that one field costs, about; a backward pass counts twice.
    """

    output: Output
    baseline: Baseline
    passes: int = 3

    @abstractmethod
    def bind(self, network: nn.Module, stride: int | Sequence[int]) -> BoundMethod:
        """Prepare for one network.

        Args:
            network: Network from grey windows ``float (B, C, *S)``, levels 0–255, to logits ``(B, 1, *S)``; in
                evaluation mode and without trainable weights, from
                :func:`~lightning_emseg.attribution.network.detached_copy`.
            stride: Multiple that the sides of its windows must have, one for all axes or one an axis.

        Raises:
            UserError: if the network is in training mode.
        """
