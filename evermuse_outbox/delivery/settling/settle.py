"""Settle: write the outcome of a POST into the rows of the batch, its records and the workspace.

The workspace is changed first. Then the batch is changed only if this process still has its lease. If the lease was
taken over, the batch and its records stay as they are, and the attempt is logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from django.db import transaction

from ...evermuse.api import (
    Accepted,
    InDoubt,
    KeyRefused,
    NoCredits,
    Outcome,
    RecordError,
    Refused,
    Throttled,
    TooLarge,
    Unavailable,
)
from ...foreign_text import get_logger
from ...models import BatchQuerySet, OutboxBatch
from ...ratelimit import MAX_BLOCK
from ..context import Attempt, DeliveryContext, equal_jitter, poll_delay, retry_until
from ..gates import (
    FailureKind,
    Judgement,
    Verdict,
    back_off,
    block_for_retry_after,
    clear_suspicion,
    failure_kind,
    judge_failure,
    pause_without_credits,
    pause_workspace,
    resume_after_send,
    was_unanswered,
)
from ..isolation import (
    IsolationTest,
    LocatedErrors,
    Refusal,
    continue_after_accepted,
    continue_after_named,
    continue_without_part,
    errors_to_json,
    locate_errors,
    lock_isolating_parent,
    refuse_batch,
    reject_located,
)
from ..sealing import SealedBatch

logger = get_logger(__name__)

Failed: TypeAlias = InDoubt | Unavailable | Throttled | KeyRefused | NoCredits
"""Outcomes after which the batch is sent again."""

KEY_IS_BLOCKED = (Verdict.UNKNOWN, Verdict.KEY)
"""Verdicts on a 401 or 403 after which its key is blocked, and the batch with it."""


def settle(
    context: DeliveryContext, sealed: SealedBatch, outcome: Outcome, attempt: Attempt, *, failures: int
) -> None:
    """Settle the outcome of a POST: change the workspace, the batch and its records, and log the attempt.

    If the database has an error, try again until shortly before the lease ends: Evermuse gives the answer only once.

    Args:
        context: the delivery context.
        sealed: the leased batch that was sent.
        outcome: what the answer means.
        attempt: the attempt to log.
        failures: the workspace's failures in a row when the request was admitted (``Circuit.failures``).
    """
    until = sealed.batch.leased_until or context.clock.now()
    judgement, is_suspected = None, True
    try:
        judgement = retry_until(
            until, context.using, context.clock, judge_failure, context, sealed.batch, outcome
        )
        is_suspected = retry_until(
            until,
            context.using,
            context.clock,
            _settle_workspace,
            context,
            sealed.batch,
            outcome,
            judgement,
            failures,
        )
    finally:
        verdict = judgement.verdict if judgement else None
        settle_batch(context, sealed, outcome, attempt, verdict, is_suspected=is_suspected)


def settle_batch(
    context: DeliveryContext,
    sealed: SealedBatch,
    outcome: Outcome,
    attempt: Attempt,
    verdict: Verdict | None = None,
    *,
    is_suspected: bool = True,
) -> None:
    """Write an outcome into the batch and its records, and log the attempt. The workspace stays as it is.

    ``verdict`` is what a failed POST says; None if it did not fail, or if the outcome is not that of a POST.
    ``is_suspected`` is False if the group of the batch is known to be neither suspected nor paused.
    """
    until = sealed.batch.leased_until or context.clock.now()
    write = partial(_write, context, sealed, outcome, attempt, verdict, is_suspected=is_suspected)
    retry_until(until, context.using, context.clock, write)


def _settle_workspace(
    context: DeliveryContext,
    batch: OutboxBatch,
    outcome: Outcome,
    judgement: Judgement | None,
    failures: int,
) -> bool:
    """Open or close the circuit of the workspace. A failure of a single batch leaves it closed.

    Return False if the group of the batch is neither suspected nor paused.
    """
    if isinstance(outcome, Throttled):  # Evermuse asks every sender of the key to wait
        block_for_retry_after(context, outcome.retry_after, outcome.message)
        return True
    if judgement and not judgement.verdict.concerns_workspace:
        return True
    refusals = judgement.failures if judgement and judgement.verdict is not Verdict.KEY else None
    match outcome:
        case KeyRefused(_, message):
            pause_workspace(context, message, refusals)
        case NoCredits(message):
            pause_without_credits(context, message, refusals)
        case InDoubt(message) | Unavailable(message):
            back_off(context, message, failures)
        case Accepted() | Refused() | TooLarge():
            return resume_after_send(context, batch)
    return True


def _write(
    context: DeliveryContext,
    sealed: SealedBatch,
    outcome: Outcome,
    attempt: Attempt,
    verdict: Verdict | None,
    *,
    is_suspected: bool,
) -> None:
    """Write the outcome once. The batch in memory stays as it was leased, so that this can be repeated."""
    sealed = replace(sealed, batch=copy(sealed.batch))
    with transaction.atomic(using=context.using):
        if _apply_outcome(context, sealed, outcome, verdict, is_suspected=is_suspected):
            attempt.save(context, sealed.batch)
            ids = context.log_ids(batch=sealed.batch.pk, outcome=attempt.outcome)
            logger.debug("batch #%s: %s", sealed.batch.pk, attempt.outcome, extra=ids)
        elif not attempt.is_saved(context, sealed.batch):
            # If the attempt is saved already, an earlier COMMIT succeeded and only its answer was lost.
            attempt.save(context, sealed.batch)
            logger.warning(
                "batch #%s: the lease was taken over; the new holder settles the batch",
                sealed.batch.pk,
                extra=context.log_ids(batch=sealed.batch.pk, outcome=attempt.outcome),
            )


def _apply_outcome(
    context: DeliveryContext,
    sealed: SealedBatch,
    outcome: Outcome,
    verdict: Verdict | None,
    *,
    is_suspected: bool,
) -> bool:
    """Write the outcome into the batch and its records. Return False if the lease was lost."""
    if verdict in (Verdict.ISOLATE, Verdict.SAMPLE):
        refusal = _refusal_of_failure(
            outcome, is_sample=verdict is Verdict.SAMPLE, is_in_doubt=was_unanswered(context, sealed.batch)
        )
        return refuse_batch(context, sealed, refusal)
    match outcome:
        case Accepted(accepted=0):
            return _refuse_all(context, sealed, outcome)
        case Accepted(rejected=0):
            return _accept(context, sealed, outcome, is_suspected=is_suspected)
        case Accepted():
            return _accept_in_part(context, sealed, outcome)
        case Refused(code, message, errors):
            columns = {"errors": errors_to_json(errors), "in_doubt": False, "failures": 0}
            return refuse_batch(context, sealed, Refusal(code, message, errors, columns))
        case TooLarge(message):
            columns = {"in_doubt": False, "failures": 0}
            return refuse_batch(
                context, sealed, Refusal("TOO_LARGE", message, columns=columns, is_too_large=True)
            )
        case InDoubt() | Unavailable() | Throttled() | KeyRefused() | NoCredits():
            return _send_again(context, sealed, outcome, verdict)


# --- 202 ----------------------------------------------------------------------------------------------


def _accept(
    context: DeliveryContext,
    sealed: SealedBatch,
    outcome: Accepted,
    located: LocatedErrors | None = None,
    *,
    is_suspected: bool = True,
) -> bool:
    """Accept the batch, except for the ``located`` records, which are rejected."""
    parent = lock_isolating_parent(context, sealed.batch)
    if not _rows(context).accept(sealed.batch, **_accepted_columns(context, outcome)):
        return False
    if is_suspected:
        clear_suspicion(context, sealed.batch)
    if located:
        reject_located(context, sealed.batch, sealed.members, located)
    if parent and located:
        continue_after_named(context, parent, len(located))
    elif parent:
        continue_after_accepted(context, parent, len(sealed.members))
    return True


def _accept_in_part(context: DeliveryContext, sealed: SealedBatch, outcome: Accepted) -> bool:
    """Accept a batch with rejected records if the answer names all of them; otherwise send it again in parts."""
    located = locate_errors(sealed.members, outcome.errors)
    is_current_contract = sealed.batch.contract == context.workspace.contract
    if len(located) == outcome.rejected and is_current_contract:
        return _accept(context, sealed, outcome, located)
    # If more records have errors than were rejected, the errors do not say which records were rejected.
    certain_errors = outcome.errors if len(located) < outcome.rejected else ()
    return refuse_batch(context, sealed, _partial_refusal(context, sealed, outcome, certain_errors))


def _refuse_all(context: DeliveryContext, sealed: SealedBatch, outcome: Accepted) -> bool:
    """Treat a 202 that rejects every record as a refusal."""
    return refuse_batch(context, sealed, _partial_refusal(context, sealed, outcome, outcome.errors))


def _partial_refusal(
    context: DeliveryContext, sealed: SealedBatch, outcome: Accepted, errors: Sequence[RecordError]
) -> Refusal:
    message = f"{outcome.rejected} of {len(sealed.members)} records were rejected"
    columns = _accepted_columns(context, outcome) | {"next_poll_at": None}
    return Refusal("REJECTED", message, errors, columns, accepted=outcome.accepted)


def _accepted_columns(context: DeliveryContext, outcome: Accepted) -> dict[str, Any]:
    return {
        "remote_id": outcome.remote_id,
        "accepted_at": context.clock.now(),
        "accepted_count": outcome.accepted,
        "rejected_count": outcome.rejected,
        "total_error_count": outcome.total_errors,
        "errors": errors_to_json(outcome.errors),
        "next_poll_at": context.clock.after(poll_delay(0, context.settings.poll_interval)),
        "in_doubt": False,
        "failures": 0,
        "message": "",
    }


# --- no clear answer, or nothing accepted -------------------------------------------------------------


def _send_again(
    context: DeliveryContext, sealed: SealedBatch, outcome: Failed, verdict: Verdict | None
) -> bool:
    """Return the batch to the senders. Once in doubt, it stays in doubt until an answer is clear."""
    batch, settings = sealed.batch, context.settings
    parent = lock_isolating_parent(context, batch) if verdict else None
    # Failures count if other batches passed meanwhile. During an outage, the batch is not at fault.
    failures = batch.failures + 1 if verdict is Verdict.BATCH else max(batch.failures, 1)
    pause = equal_jitter(failures, settings.backoff_base, settings.backoff_cap)
    if isinstance(outcome, Throttled):
        pause += min(outcome.retry_after, MAX_BLOCK)
    due_at = context.clock.after(pause)
    if context.pool and batch.in_doubt and isinstance(outcome, KeyRefused) and verdict in KEY_IS_BLOCKED:
        # Its wait for its key goes on. A later time would begin it anew with each probe of the key.
        due_at = batch.due_at
    release = _rows(context).mark_in_doubt if isinstance(outcome, InDoubt) else _rows(context).give_back
    if not release(batch, failures=failures, due_at=due_at, message=outcome.message):
        return False
    if parent and len(sealed.members) == 1 and _goes_on_alone(parent, verdict):
        is_suspected = verdict is Verdict.BATCH
        continue_without_part(context, parent, batch, outcome.message, is_suspected=is_suspected)
    return True


def _goes_on_alone(parent: OutboxBatch, verdict: Verdict | None) -> bool:
    """Return whether a single record that failed must not hold up the other records of its isolating batch."""
    test = IsolationTest.from_json(parent.isolation)
    return test.by_failures and (verdict is Verdict.BATCH or test.is_sample)


def _refusal_of_failure(outcome: Outcome, *, is_sample: bool, is_in_doubt: bool) -> Refusal:
    """Return the refusal of a batch that failed again and again while others passed.

    ``is_in_doubt`` says whether an earlier POST of it had no answer.
    """
    match outcome:
        case KeyRefused(status=status, message=message):
            code = f"HTTP_{status}"
        case NoCredits(message=message):
            code = "HTTP_402"
        case Throttled(message=message):
            code = "HTTP_429"
        case InDoubt(message=message, status=status) | Unavailable(message=message, status=status):
            code = f"HTTP_{status}" if status else "NO_ANSWER"
        case _:
            raise ValueError(f"not a failure: {outcome!r}")
    # After a timeout, Evermuse may process the request late. An answer to another request does not change that.
    is_in_doubt = is_in_doubt or failure_kind(outcome) is FailureKind.UNANSWERED
    columns = {} if is_in_doubt else {"in_doubt": False}
    return Refusal(code, message, columns=columns, is_failure=True, is_sample=is_sample)


def _rows(context: DeliveryContext) -> BatchQuerySet:
    return OutboxBatch.objects.using(context.using)
