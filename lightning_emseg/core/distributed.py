"""What ranks tell each other; a mistake on one of them ends all, instead of leaving the others to wait."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from data_modules.errors import UserError

S = TypeVar("S")
T = TypeVar("T")


def from_first_rank(make: Callable[[], T]) -> T:
    """What rank 0 makes, on every rank; the others wait for it.

    Args:
        make: Called on rank 0 only; its result must be picklable.

    Raises:
        UserError: on every rank, if it is raised on rank 0.
        RuntimeError: on the others, if rank 0 fails otherwise.
    """
    if not _several():
        return make()
    mine = _attempt(make) if dist.get_rank() == 0 else None
    holder: list[Any] = [mine and mine.sent]
    dist.broadcast_object_list(holder, src=0)
    result: T = _opened(holder, mine)[0]
    return result


def from_all_ranks(make: Callable[[], T]) -> list[T]:
    """What each rank makes, in the order of the ranks, on every rank.

    Args:
        make: Called on every rank; its result must be picklable.

    Raises:
        UserError: on every rank, if it is raised on any.
        RuntimeError: on the others, if one fails otherwise.
    """
    if not _several():
        return [make()]
    mine = _attempt(make)
    holder: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(holder, mine.sent)
    return _opened(holder, mine)


def shared_out(make: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """``make`` of every item, each computed by one rank, on every rank and in the order of the items.

    Args:
        make: Its result must be picklable.
        items: The same on every rank.

    Raises:
        UserError: on every rank, if it is raised on any.
        RuntimeError: on the others, if one fails otherwise.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if _several() else (0, 1)
    parts = from_all_ranks(lambda: [make(item) for item in items[rank::world]])
    return [parts[number % world][number // world] for number in range(len(items))]


def dealt_together(mine: Tensor) -> Tensor:
    """Rows that were dealt out to the ranks, back in one piece on every rank; no gradient flows through it.

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


def dealt_out(rows: Tensor) -> Tensor:
    """This rank's share ``(B, …)`` of rows ``(B · world, …)``; the inverse of :func:`dealt_together`."""
    return rows[dist.get_rank() :: dist.get_world_size()] if _several() else rows


def shared_permutation(number: int, device: torch.device) -> Tensor:
    """A random order ``int64 (number,)`` that rank 0 draws from torch's generator of the CPU, on every rank."""
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


@dataclass(frozen=True)
class _Parcel:
    """A result, or the message of a failure in its place."""

    result: Any = None
    message: str | None = None
    is_users: bool = False


@dataclass(frozen=True)
class _Attempt:
    """What is sent, and the exception itself, which may hold what cannot be."""

    sent: _Parcel
    error: Exception | None = None


def _attempt(make: Callable[[], Any]) -> _Attempt:
    try:
        return _Attempt(_Parcel(make()))
    except UserError as error:
        return _Attempt(_Parcel(message=str(error), is_users=True), error)
    except Exception as error:
        return _Attempt(_Parcel(message=f"{type(error).__name__}: {error}"), error)


def _opened(parcels: Sequence[_Parcel], mine: _Attempt | None) -> list[Any]:
    if mine is not None and mine.error is not None:
        raise mine.error
    for rank, parcel in enumerate(parcels):
        if parcel.message is not None:
            raise UserError(parcel.message) if parcel.is_users else RuntimeError(f"rank {rank}: {parcel.message}")
    return [parcel.result for parcel in parcels]
