"""Isolate bad records: reject the bad records of a refused batch and send the good ones on.

* If the answer names bad records, they are rejected and the others go on together. Evermuse lists 20 errors at most,
  so E errors need E / 20 requests.
* If the answer names no record, the batch becomes *isolating* and keeps its records. One part after the other is sealed
  and sent in a batch of its own, until no record is left. ``group_testing`` chooses the parts.

No record is rejected on a guess. A record that was not named is rejected only if it is refused alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...evermuse import limits
from ...evermuse.api import RecordError
from ...models import BatchQuerySet, BatchState, OutboxBatch, OutboxRecord
from ..context import DeliveryContext
from ..gates import Suspicion, count_refusal
from ..sealing import (
    SealedBatch,
    lock_for_sealing,
    prepare_members,
    reseal_in_doubt,
    reseal_part,
    reseal_parts,
)
from .group_testing import IsolationTest
from .rejections import LocatedErrors, locate_errors, open_members, reject_located


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that refuses a batch, or a part of it without naming every refused record.

    ``errors`` name records by position. ``columns`` are the columns of the batch that the answer fills. ``accepted`` is
    the number of records that were accepted nevertheless, None if the answer does not say. ``is_too_large`` is true
    if only the size of the request is at fault.

    ``is_failure`` is true if the batch was not refused but failed again and again while others passed. ``is_sample`` is
    true if no other batch has passed: then only a single record is to be tried next.
    """

    code: str
    message: str
    errors: Sequence[RecordError] = ()
    columns: dict[str, Any] = field(default_factory=dict)
    accepted: int | None = None
    is_too_large: bool = False
    is_failure: bool = False
    is_sample: bool = False

    def locate(self, members: Sequence[int]) -> LocatedErrors:
        """Return the records that are certainly bad: the named ones, or the only one of the request."""
        only_one = {0: RecordError(0, self.code, self.message)} if len(members) == 1 else {}
        return locate_errors(members, self.errors) or only_one

    def is_in_full(self, sent: int, located: LocatedErrors) -> bool:
        """Return whether no record is known to be good.

        That is so if none was accepted and the answer names all records, no record, or as many as it can list.
        """
        all_or_none = len(located) in (0, sent) or len(self.errors) >= limits.MAX_LISTED_ERRORS
        return not self.accepted and all_or_none

    def count_bad(self, sent: int, located: LocatedErrors) -> int:
        """Return the number of sent records if all of them are known to be bad; otherwise 0."""
        return sent if self.accepted == 0 or len(located) == sent else 0


def refuse_batch(context: DeliveryContext, sealed: SealedBatch, refusal: Refusal) -> bool:
    """Settle a refused batch: reject its bad records and let the others go on.

    Call it in the transaction that settles the batch. Return False if the lease was lost; then nothing is changed.
    """
    batch = sealed.batch
    lock_for_sealing(context)
    ended = {"message": refusal.message, "finished_at": context.clock.now()}
    if not _rows(context).refuse(batch, **refusal.columns | ended):
        return False
    parent = lock_isolating_parent(context, batch)
    if batch.contract != context.workspace.contract:
        # The batch was sealed before CONTRACT changed. The old contract may be the only fault: reject no record.
        _reseal_in_new_contract(context, sealed, parent)
        return True
    located = refusal.locate(sealed.members)
    suspicion = _count_against_group(context, sealed, parent, refusal, located)
    if suspicion is Suspicion.PAUSED:
        _wait_for_group(context, sealed, parent)
        return True
    reject_located(context, batch, sealed.members, located)
    if parent:
        _continue_parent(context, sealed, parent, refusal, located, suspicion)
    else:
        _send_rest_on(context, sealed, refusal, located, suspicion)
    return True


def start_isolating(
    context: DeliveryContext, batch: OutboxBatch, *, named: int = 0, by_failures: bool = False
) -> None:
    """Try the open members of ``batch`` part by part.

    Args:
        context: the delivery context.
        batch: a refused batch.
        named: number of its records that were rejected by name.
        by_failures: whether the batch was not refused but failed again and again.
    """
    suspects = 0 if named else len(open_members(context, batch))
    _try_next_part(context, batch, IsolationTest(bad=named, suspects=suspects, by_failures=by_failures))


def lock_isolating_parent(context: DeliveryContext, batch: OutboxBatch) -> OutboxBatch | None:
    """Return the isolating batch of which ``batch`` is the part that is tried now, or None.

    If ``batch`` has a parent, take the sealing lock first.
    """
    if batch.parent_id is None:
        return None
    lock_for_sealing(context)
    parent = _rows(context).filter(pk=batch.parent_id, state=BatchState.ISOLATING).first()
    return parent if parent and parent.is_tried_part(batch) else None


def continue_after_accepted(context: DeliveryContext, parent: OutboxBatch, size: int) -> None:
    """Try the next part of ``parent`` after all ``size`` records of a part were accepted."""
    remaining = len(open_members(context, parent))
    _try_next_part(context, parent, IsolationTest.from_json(parent.isolation).after_good(size, remaining))


def continue_after_named(context: DeliveryContext, parent: OutboxBatch, bad: int) -> None:
    """Try the next part of ``parent`` after ``bad`` records of a part were rejected and the others accepted."""
    _try_next_part(context, parent, IsolationTest.from_json(parent.isolation).after_named(bad))


def continue_without_part(
    context: DeliveryContext, parent: OutboxBatch, part: OutboxBatch, message: str, *, is_suspected: bool
) -> None:
    """Try the next part of ``parent``, and let the single record of ``part`` go on alone in its batch.

    So its neighbours do not wait until it is certain that the record is at fault.

    Args:
        context: the delivery context.
        parent: the isolating batch.
        part: the batch with a single record that failed.
        message: the failure.
        is_suspected: whether other batches have passed, so that the record or its group is probably at fault.
    """
    test = IsolationTest.from_json(parent.isolation)
    if not is_suspected:
        _try_next_part(context, parent, test.after_unclear())
        return
    suspicion = count_refusal(context, part, message, in_full=True, bad_records=1, is_failure=True)
    if suspicion is Suspicion.PAUSED:
        _end_in_doubt(context, parent)
        return
    remaining = len(open_members(context, parent))
    _try_next_part(context, parent, test.after_bad(1, remaining), suspicion)


def _wait_for_group(context: DeliveryContext, sealed: SealedBatch, parent: OutboxBatch | None) -> None:
    """Make the records of a refused batch pending, because its group is paused; keep those in batches in doubt."""
    if parent and parent.in_doubt:
        _move_back(context, sealed.batch, parent, sealed.members)
        _end_in_doubt(context, parent)
    elif not _end_in_doubt(context, sealed.batch):
        OutboxRecord.rows.using(context.using).release(sealed.batch)


def _end_in_doubt(context: DeliveryContext, batch: OutboxBatch | None) -> bool:
    """End a refused or isolating batch if Evermuse may still process it. Return False, and change nothing, if not.

    Its records must not become pending, because a newer version could be sent before the old request is processed.
    """
    if batch is None or not batch.in_doubt:
        return False
    _rows(context).split(batch, context.clock.now())
    reseal_in_doubt(context, batch)
    return True


def _count_against_group(
    context: DeliveryContext,
    sealed: SealedBatch,
    parent: OutboxBatch | None,
    refusal: Refusal,
    located: LocatedErrors,
) -> Suspicion:
    if refusal.is_too_large or refusal.is_sample:
        return Suspicion.NONE  # the size of the request is at fault, or nothing is known yet
    sent = len(sealed.members)
    error = next(iter(located.values())).message if located else refusal.message
    in_full, bad_records = refusal.is_in_full(sent, located), refusal.count_bad(sent, located)
    if refusal.is_failure and sealed.batch.parent_id and parent is None:
        bad_records = 0  # counted when the record began to go on alone
    return count_refusal(
        context,
        sealed.batch,
        error,
        in_full=in_full,
        bad_records=bad_records,
        is_failure=refusal.is_failure,
    )


def _continue_parent(
    context: DeliveryContext,
    sealed: SealedBatch,
    parent: OutboxBatch,
    refusal: Refusal,
    located: LocatedErrors,
    suspicion: Suspicion,
) -> None:
    """Move the records of a refused part back to its parent, and try the next part."""
    sent = len(sealed.members)
    rest = _not_located(sealed, located)
    _move_back(context, sealed.batch, parent, rest)
    remaining = len(open_members(context, parent)) - len(rest)
    test = IsolationTest.from_json(parent.isolation)
    is_alone_or_unnamed = sent == 1 or not located
    if refusal.is_sample:
        test = test.after_unclear().with_sample()
    else:
        test = test.after_bad(sent, remaining) if is_alone_or_unnamed else test.after_named(len(located))
    _try_next_part(context, parent, test, suspicion)


def _send_rest_on(
    context: DeliveryContext,
    sealed: SealedBatch,
    refusal: Refusal,
    located: LocatedErrors,
    suspicion: Suspicion,
) -> None:
    """Send the records that were not rejected: in halves, in one batch, or part by part."""
    rest = _not_located(sealed, located)
    if not rest:
        return
    if refusal.is_too_large:
        half = (len(rest) + 1) // 2
        _split(context, sealed.batch, [rest[:half], rest[half:]])
    elif located and suspicion is Suspicion.NONE:
        _split(context, sealed.batch, [rest])
    else:
        _try_next_part(context, sealed.batch, _first_test(refusal, len(located), len(rest)), suspicion)


def _first_test(refusal: Refusal, named: int, remaining: int) -> IsolationTest:
    if refusal.is_sample:
        return IsolationTest(by_failures=True).with_sample()
    if named:
        return IsolationTest(bad=named)
    return IsolationTest(suspects=remaining, by_failures=refusal.is_failure)


def _reseal_in_new_contract(
    context: DeliveryContext, sealed: SealedBatch, parent: OutboxBatch | None
) -> None:
    """Send all records again in the workspace's present contract, without a rejection."""
    if parent is None:
        if not _end_in_doubt(context, sealed.batch):
            _split(context, sealed.batch, [sealed.members])
        return
    _move_back(context, sealed.batch, parent, sealed.members)
    _try_next_part(context, parent, IsolationTest.from_json(parent.isolation).without_suspects())


def _try_next_part(
    context: DeliveryContext, parent: OutboxBatch, test: IsolationTest, suspicion: Suspicion = Suspicion.NONE
) -> None:
    """Seal the next part of an isolating batch. If no record is left, end the isolation."""
    while pks := open_members(context, parent):
        if suspicion is Suspicion.SUSPECTED and len(pks) > 1:
            test = test.with_sample()
        chosen = pks[-1:] if test.is_sample else pks[: test.next_size(len(pks))]
        records = prepare_members(context, parent, chosen, is_in_doubt=test.by_failures)
        if len(records) < len(chosen):
            test = test.without_suspects()
        if records:
            part = reseal_part(context, records, parent)
            _rows(context).isolate(parent, test.to_json() | {"part": part.pk})
            return
    _rows(context).split(parent, context.clock.now())


def _split(context: DeliveryContext, batch: OutboxBatch, parts: Sequence[Sequence[int]]) -> None:
    _rows(context).split(batch, context.clock.now())
    reseal_parts(context, batch, [part for part in parts if part])


def _not_located(sealed: SealedBatch, located: LocatedErrors) -> list[int]:
    return [pk for position, pk in enumerate(sealed.members) if position not in located]


def _move_back(context: DeliveryContext, part: OutboxBatch, parent: OutboxBatch, pks: Sequence[int]) -> None:
    OutboxRecord.rows.using(context.using).move(pks, part, parent)


def _rows(context: DeliveryContext) -> BatchQuerySet:
    return OutboxBatch.objects.using(context.using)
