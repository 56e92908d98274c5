"""Exchange between ranks; a mistake on one of them ends all, instead of leaving the others to wait."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from data_modules.errors import UserError

S = TypeVar("S")
T = TypeVar("T")
_Parcel = tuple[Any, str | None, bool]
"""Result, or the message of a failure in its place, and whether that is a mistake of the user."""


def from_first_rank(make: Callable[[], T]) -> T:
    """Return what rank 0 makes, on every rank; the others wait for it.

    Args:
        make: Called on rank 0 only; its result must be picklable.

    Raises:
        UserError: on every rank, if it is raised on rank 0.
        RuntimeError: on the others, if rank 0 fails otherwise.
    """
    if not _several():
        return make()
    sent, error = _attempt(make) if dist.get_rank() == 0 else (None, None)
    holder: list[Any] = [sent]
    dist.broadcast_object_list(holder, src=0)
    result: T = _opened(holder, error)[0]
    return result


def from_all_ranks(make: Callable[[], T]) -> list[T]:
    """Return what each rank makes, in the order of the ranks, on every rank.

    Args:
        make: Called on every rank; its result must be picklable.

    Raises:
        UserError: on every rank, if it is raised on any.
        RuntimeError: on the others, if one fails otherwise.
    """
    if not _several():
        return [make()]
    sent, error = _attempt(make)
    holder: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(holder, sent)
    return _opened(holder, error)


def share_out(make: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """Compute ``make`` of every item on one rank; returns all on every rank, in the order of the items.

    Args:
        make: Function of an item; its result must be picklable.
        items: Items, the same on every rank.

    Raises:
        UserError: on every rank, if it is raised on any.
        RuntimeError: on the others, if one fails otherwise.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if _several() else (0, 1)
    parts = from_all_ranks(lambda: [make(item) for item in items[rank::world]])
    return [parts[number % world][number // world] for number in range(len(items))]


def gather_rows(mine: Tensor) -> Tensor:
    """Gather rows that were dealt out to the ranks, on every rank; no gradient flows through it.

    Args:
        mine: ``(B, …)`` of one shape on all ranks; row i of rank r was item i · world + r, as samplers deal them out.

    Returns:
        ``(B · world, …)`` in the order of the items, whatever their number of ranks.
    """
    if not _several():
        return mine.detach()
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, mine.detach().contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)


def own_rows(rows: Tensor) -> Tensor:
    """Take this rank's share ``(B, …)`` of rows ``(B · world, …)``; the inverse of :func:`gather_rows`."""
    return rows[dist.get_rank() :: dist.get_world_size()] if _several() else rows


def share_permutation(number: int, device: torch.device) -> Tensor:
    """Draw a random order ``int64 (number,)`` on rank 0, from torch's generator of the CPU; the same on every rank."""
    order = torch.randperm(number).to(device)
    copy_from_first_rank(order)
    return order


def copy_from_first_rank(tensor: Tensor) -> None:
    """Overwrite a tensor, of one shape on all ranks, with that of rank 0."""
    if _several():
        dist.broadcast(tensor, src=0)


def wait_for_all() -> None:
    """Return when every rank is here."""
    if _several():
        dist.barrier()


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _attempt(make: Callable[[], Any]) -> tuple[_Parcel, Exception | None]:
    """Call; returns what can be sent, and the exception itself, which may hold what cannot be."""
    try:
        return (make(), None, False), None
    except UserError as error:
        return (None, str(error), True), error
    except Exception as error:
        return (None, f"{type(error).__name__}: {error}", False), error


def _opened(parcels: Sequence[_Parcel], error: Exception | None) -> list[Any]:
    if error is not None:
        raise error
    for rank, (_, message, is_users) in enumerate(parcels):
        if message is not None:
            raise UserError(message) if is_users else RuntimeError(f"rank {rank}: {message}")
    return [result for result, _, _ in parcels]
