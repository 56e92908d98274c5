"""CleftNet's losses as its paper's equations have them (Liu and Ji 2021, eqs. 7 to 10), a voxel at a time."""

import math
from dataclasses import dataclass

from lightning_emseg.losses.cleft import FLOOR


@dataclass(frozen=True)
class Voxel:
    """What the paper's equations know of one voxel: both logits, class, boundary label."""

    segmentation: float
    distance: float
    y_s: int
    y_b: float


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def slow_segmentation(voxels: list[Voxel]) -> float:
    beta = sum(1 for v in voxels if v.y_s == 0) / len(voxels)
    rare = sum(math.log(sigmoid(v.segmentation)) for v in voxels if v.y_s == 1)
    rest = sum(math.log(sigmoid(-v.segmentation)) for v in voxels if v.y_s == 0)
    return (-beta * rare - (1 - beta) * rest) / len(voxels)


def slow_boundary(voxels: list[Voxel], as_printed: bool = False) -> float:
    inside = [v for v in voxels if v.y_b > 0]
    outside = [v for v in voxels if v.y_b == 0]
    beta = len(inside if as_printed else outside) / len(voxels)
    errors = [sum((v.y_b - math.tanh(v.distance)) ** 2 for v in part) for part in (inside, outside)]
    return (beta * errors[0] + (1 - beta) * errors[1]) / len(voxels)


def slow_coherence(voxels: list[Voxel], as_printed: bool = False) -> float:
    total = 0.0
    for v in voxels:
        boundary = math.tanh(v.distance)
        if boundary > 0:
            total -= (1 - sigmoid(v.segmentation)) * math.log(max(boundary, FLOOR))
        else:
            total -= (1 - boundary) * math.log(sigmoid(v.segmentation if as_printed else -v.segmentation))
    return total / len(voxels)


def slow_balanced(voxels: list[Voxel]) -> float:
    means = []
    for inside in (True, False):
        part = [v for v in voxels if (v.y_s == 1) == inside]
        entropy = -sum(math.log(sigmoid(v.segmentation if inside else -v.segmentation)) for v in part)
        error = sum((v.y_b - math.tanh(v.distance)) ** 2 for v in part)
        means.append((entropy / len(part), error / len(part)))
    (of_clefts, inside_error), (of_rest, outside_error) = means
    weighted = (of_clefts + of_rest) / 2 + 0.5 * (inside_error + outside_error) / 2
    return weighted + 0.2 * slow_coherence(voxels)


def slow_total(voxels: list[Voxel]) -> float:
    return slow_segmentation(voxels) + 0.5 * slow_boundary(voxels) + 0.2 * slow_coherence(voxels)


def slow_total_as_printed(voxels: list[Voxel]) -> float:
    return slow_segmentation(voxels) + 0.3 * slow_boundary(voxels, True) + 0.7 * slow_coherence(voxels, True)
