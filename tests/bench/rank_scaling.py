"""Case ``ranks``: how the step rate scales from one process to two, and how much of a step is communication.

Two processes of one thread each (gloo) or one GPU each (nccl) take turns at: one of them training while the other
waits; both training on their own; both in DDP without synchronisation; both in DDP. What a step loses from one to the
next is, in this order, to shared memory and caches, to DDP's wrapper, and to communication: copies into buckets,
all-reduces, waits for the slower rank, buffers of batch norms, and the question whether all losses are finite. Two
processes do the same in weak scaling (batch per rank fixed) and in strong scaling (global batch fixed); what differs is
the batch of the one process that they are held against.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from lightning_emseg.modules.smp_model import LinkNet
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.bench.harness import Row, median
from tests.bench.rank_blocks import APART, DDP, MODES, ONE, ONE_WHOLE, SILENT, WATCHED, Measured, Setting, measure
from tests.bench.rank_callbacks import Reduced

ON_CPU = (
    Setting(LinkNet, patch=256, batch=2, precision="32-true", steps=4, rounds=3),
    # At 256² a step of one patch takes four seconds on one core.
    Setting(VanillaUNet, patch=128, batch=1, precision="32-true", steps=2, rounds=3),
)
ON_GPU = (
    Setting(LinkNet, patch=512, batch=8, precision="bf16-mixed", steps=40, rounds=7, warm=10),
    Setting(VanillaUNet, patch=512, batch=4, precision="bf16-mixed", steps=40, rounds=7, warm=10),
)


def rows(scratch: Path) -> Iterator[Row]:
    """Rows for the CPU or, where there are any, for one GPU or two."""
    gpus = torch.cuda.device_count()
    ranks, where = devices(gpus)
    for setting in ON_GPU if gpus else ON_CPU:
        folder = scratch / setting.make.__name__
        folder.mkdir()
        found = measure(setting, MODES, ranks, folder)
        about = f"{setting.make.__name__}, {setting.batch} × {setting.patch}² px a rank"
        yield from (single if ranks == 1 else scaling)(about, setting.batch, Steps.of(found), where)


def devices(gpus: int) -> tuple[int, str]:
    """Processes to measure, and what they run on.

    Args:
        gpus: Of this machine.
    """
    if not gpus:
        return 2, "gloo, CPU, one thread a process"
    if gpus == 1:
        return 1, "there is one GPU, so 1 process only"
    return 2, "nccl, one GPU a process"


@dataclass(frozen=True)
class Steps:
    """Seconds per step of every mode, block by block, and the all-reduces of the watched steps.

    Attributes:
        seconds: Mean over the ranks that worked; blocks of one position are neighbours in time.
        reduced: Of all ranks.
    """

    seconds: Mapping[str, Sequence[float]]
    reduced: Sequence[Reduced]

    @classmethod
    def of(cls, found: Sequence[Measured]) -> "Steps":
        """Join what the ranks have seen."""
        seconds = {}
        for mode in found[0].seconds:
            blocks = [rank.seconds[mode] for rank in found if rank.seconds[mode]]
            seconds[mode] = [sum(block) / len(block) for block in zip(*blocks, strict=True)]
        return cls(seconds, [step for rank in found for step in rank.reduced.get(WATCHED, ())])

    def ratios(self, mode: str, to: str) -> list[float]:
        """Seconds of one mode over those of another, block by block, so that a slow minute cancels out."""
        return [own / other for own, other in zip(self.seconds[mode], self.seconds[to], strict=True)]

    def exposed(self) -> list[float]:
        """Share of a step of DDP, block by block, that goes without synchronisation: what backward does not hide."""
        return [1 - silent for silent in self.ratios(SILENT, DDP)]


def single(about: str, batch: int, steps: Steps, where: str) -> Iterator[Row]:
    """One process with the batch of a rank, and with that of two."""
    for mode, factor in ((ONE, 1), (ONE_WHOLE, 2)):
        seconds = median(steps.seconds[mode])
        yield _row(about, f"1 process, batch {factor * batch}", factor * batch, seconds, note=where)


def scaling(about: str, batch: int, steps: Steps, where: str) -> Iterator[Row]:
    """One process and two, efficiencies, and communication."""
    yield from single(about, batch, steps, where)
    row = partial(_row, about, patches=2 * batch)
    kept = f"2 × 1 process, batch {batch}"
    for mode, title, note in (
        (APART, "2 processes on their own", "what they lose to each other's use of the memory"),
        (SILENT, "2 processes, DDP without synchronisation", "no_sync in every step"),
        (DDP, "2 processes, DDP, batch per rank fixed", "weak scaling"),
    ):
        yield row(
            title, seconds=median(steps.seconds[mode]), against=kept, ratio=median(steps.ratios(ONE, mode)), note=note
        )
    strong = median(steps.ratios(ONE_WHOLE, DDP)) / 2
    seconds = median(steps.seconds[DDP])
    whole = f"2 × 1 process, batch {2 * batch}"
    yield row(
        "2 processes, DDP, global batch fixed", seconds=seconds, against=whole, ratio=strong, note="strong scaling"
    )
    yield from communication(about, steps)


def communication(about: str, steps: Steps) -> Iterator[Row]:
    """What DDP adds to a step, and for how long all-reduces are under way."""
    shares = [100 * share for share in steps.exposed()]
    blocks = ", ".join(f"{share:.1f}" for share in shares)
    note = f"blocks: {blocks} %; gradients, buffers of batch norms, and whether the loss is finite"
    yield Row("ranks", f"{about}: communication that backward does not hide", median(shares), "% of a step", note=note)
    under_way = median([step.seconds for step in steps.reduced])
    share = under_way / median(steps.seconds[WATCHED])
    one = steps.reduced[0]
    yield Row(
        "ranks",
        f"{about}: all-reduces of gradients under way",
        1e3 * under_way,
        "ms a step",
        "the whole step",
        share,
        note=f"{one.mib:.1f} MiB in {one.buckets} buckets; by a communication hook, in blocks of its own, where a step "
        f"takes {median(steps.ratios(WATCHED, DDP)):.2f} × one without the hook",
    )


def _row(
    about: str, what: str, patches: int, seconds: float, against: str = "", ratio: float | None = None, note: str = ""
) -> Row:
    rate = f"{1 / seconds:.3g} steps/s; {note}"
    return Row("ranks", f"{about}: {what}", patches / seconds, "patches/s", against, ratio, note=rate)
