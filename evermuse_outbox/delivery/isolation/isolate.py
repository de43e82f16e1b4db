"""Dividing what was refused: the bad records are found and rejected, the good ones around them are delivered.

Where the answer names bad ones, they are rejected and the rest goes on together: Evermuse lists at most 20 errors
at a time, so that E errors take E / 20 requests. Where it names nobody, the batch becomes *dividing*: its records
stay with it, and one part after the other is tried in a batch of its own, as :mod:`.search` says, until none is
left. Nobody is rejected on a guess: who was not named is rejected only when refused alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ...evermuse.limits import MAX_LISTED_ERRORS
from ...evermuse.outcomes import RecordError
from ...models import BatchQuerySet, BatchState, OutboxBatch, OutboxRecord
from ..context.context import DeliveryContext
from ..gates.group_breaker import Suspicion, weigh
from ..sealing.seal import SealedBatch, lock_for_sealing, seal_part, seal_parts, still_to_send
from .group_testing import Search
from .rejections import Located, locate, open_members, reject_located


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an answer said against a batch. ``told`` are columns of the batch that it fills.

    ``accepted`` counts the records that were taken all the same; which ones, the answer does not say.
    """

    code: str
    message: str
    errors: Sequence[RecordError] = ()
    told: dict[str, Any] = field(default_factory=dict)
    accepted: int | None = None
    too_large: bool = False

    def named(self, members: Sequence[int]) -> Located:
        """Who is at fault for certain: those that it names, or the one that was alone."""
        alone = {0: RecordError(0, self.code, self.message)} if len(members) == 1 else {}
        return locate(members, self.errors) or alone

    def is_in_full(self, sent: int, named: Located) -> bool:
        """Whether nothing speaks for any of the records: all are named, none is, or the list was cut."""
        all_or_none = len(named) in (0, sent) or len(self.errors) >= MAX_LISTED_ERRORS
        return not self.accepted and all_or_none

    def certain(self, sent: int, named: Located) -> int:
        """How many are known to be bad, for telling whether all of the group are."""
        return sent if self.accepted == 0 or len(named) == sent else 0


def refuse(context: DeliveryContext, sealed: SealedBatch, refusal: Refusal) -> bool:
    """sending → refused, split or dividing. False when the lease was lost. Inside the settling transaction."""
    batch = sealed.batch
    lock_for_sealing(context)
    ended = {"message": refusal.message, "finished_at": context.clock.now()}
    if not _rows(context).settle(batch, BatchState.REFUSED, **refusal.told | ended):
        return False
    parent = lock_isolating_parent(context, batch)
    if batch.contract != context.workspace.contract:
        # Sealed before the host changed CONTRACT: the form may be all that is wrong, so nobody is blamed.
        _try_again(context, sealed, parent)
        return True
    named = refusal.named(sealed.members)
    suspicion = _weigh(context, sealed, refusal, named)
    if suspicion is Suspicion.PAUSED:
        OutboxRecord.rows.using(context.using).release(batch)
        return True
    reject_located(context, batch, sealed.members, named)
    _go_on(context, sealed, parent, refusal, named, suspicion)
    return True


def start(context: DeliveryContext, batch: OutboxBatch, search: Search) -> None:
    """Any → dividing: the records that are still in ``batch`` are tried part by part."""
    _try_next_part(context, batch, search)


def lock_isolating_parent(context: DeliveryContext, batch: OutboxBatch) -> OutboxBatch | None:
    """The dividing batch that ``batch`` is the part of which is tried now, with the workspace's turn taken."""
    if batch.parent_id is None:
        return None
    lock_for_sealing(context)
    return _rows(context).filter(pk=batch.parent_id, state=BatchState.ISOLATING).first()


def go_on_after_good(context: DeliveryContext, parent: OutboxBatch, size: int) -> None:
    """All ``size`` records of the part were accepted: the next part is tried."""
    left = len(open_members(context, parent))
    _try_next_part(context, parent, _search_of(parent).after_good(size, left))


def go_on_after_names(context: DeliveryContext, parent: OutboxBatch, bad: int) -> None:
    """So many records of the part were rejected by name, the others are seen to: what is left is tried."""
    _try_next_part(context, parent, _search_of(parent).after_names(bad))


def _weigh(context: DeliveryContext, sealed: SealedBatch, refusal: Refusal, named: Located) -> Suspicion:
    if refusal.too_large:
        return Suspicion.NONE  # that says something of the size, nothing of the records
    sent = len(sealed.members)
    error_signature = next(iter(named.values())).message if named else refusal.message
    in_full, certain = refusal.is_in_full(sent, named), refusal.certain(sent, named)
    return weigh(context, sealed.batch, error_signature, in_full=in_full, certain=certain)


def _go_on(
    context: DeliveryContext,
    sealed: SealedBatch,
    parent: OutboxBatch | None,
    refusal: Refusal,
    named: Located,
    suspicion: Suspicion,
) -> None:
    """What is left of the batch goes on."""
    batch, sent = sealed.batch, len(sealed.members)
    rest = [pk for position, pk in enumerate(sealed.members) if position not in named]
    if parent:
        _back_to(context, parent, batch, rest)
        left = len(open_members(context, parent)) - len(rest)
        search = _search_of(parent)
        alone_or_unnamed = sent == 1 or not named
        after = search.after_bad(sent, left) if alone_or_unnamed else search.after_names(len(named))
        _try_next_part(context, parent, after, suspicion)
    elif refusal.too_large and rest:
        half = (len(rest) + 1) // 2
        _split(context, batch, [rest[:half], rest[half:]])
    elif named and rest and suspicion is Suspicion.NONE:
        _split(context, batch, [rest])
    elif rest:
        search = Search(found=len(named)) if named else Search(suspects=len(rest))
        _try_next_part(context, batch, search, suspicion)


def _try_again(context: DeliveryContext, sealed: SealedBatch, parent: OutboxBatch | None) -> None:
    """All of it, in today's form."""
    if parent is None:
        _split(context, sealed.batch, [sealed.members])
        return
    _back_to(context, parent, sealed.batch, sealed.members)
    _try_next_part(context, parent, _search_of(parent).without_suspicion())


def _try_next_part(
    context: DeliveryContext, parent: OutboxBatch, search: Search, suspicion: Suspicion = Suspicion.NONE
) -> None:
    """The next records of a dividing batch in a batch of their own; none left ends the dividing."""
    while pks := open_members(context, parent):
        if suspicion is Suspicion.SUSPECTED and len(pks) > 1:
            search = search.with_sample()
        chosen = pks[-1:] if search.sample else pks[: search.next_size(len(pks))]
        ready = still_to_send(context, parent, chosen)
        if len(ready) < len(chosen):
            search = search.without_suspicion()
        if ready:
            _become(context, parent, BatchState.ISOLATING, isolation=asdict(search), finished_at=None)
            seal_part(context, ready, parent)
            return
    _become(context, parent, BatchState.SPLIT, isolation=None, finished_at=context.clock.now())


def _back_to(context: DeliveryContext, parent: OutboxBatch, part: OutboxBatch, pks: Sequence[int]) -> None:
    OutboxRecord.rows.using(context.using).move(pks, part, parent)


def _split(context: DeliveryContext, batch: OutboxBatch, parts: Sequence[Sequence[int]]) -> None:
    _become(context, batch, BatchState.SPLIT)
    seal_parts(context, batch, [part for part in parts if part])


def _become(context: DeliveryContext, batch: OutboxBatch, state: BatchState, **changes: Any) -> None:
    """The row is held by this transaction: who got here has settled it, or its part."""
    _rows(context).filter(pk=batch.pk).update(state=state, **changes)


def _search_of(parent: OutboxBatch) -> Search:
    return Search(**(parent.isolation or {}))


def _rows(context: DeliveryContext) -> BatchQuerySet:
    return OutboxBatch.objects.using(context.using)
