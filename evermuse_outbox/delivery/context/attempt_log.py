"""The attempt log: one row for each HTTP call, so that an operator sees when it was made and what came back.

Reconciliation needs it, too. It recognises a batch in the listing by the start times of the batch's unclear attempts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ...evermuse.api import (
    Accepted,
    Answer,
    InDoubt,
    KeyRefused,
    NoCredits,
    Outcome,
    Refused,
    Throttled,
    TooLarge,
    Unavailable,
)
from ...foreign_text import clean_text
from ...models import OutboxAttempt, OutboxBatch
from .context import DeliveryContext

DETAIL_LENGTH = 2_000
"""Characters of an answer that are stored with an attempt."""

OUTCOME_NAMES = {
    Accepted: "accepted",
    Refused: "refused",
    TooLarge: "too_large",
    KeyRefused: "key_refused",
    NoCredits: "no_credits",
    Throttled: "throttled",
    InDoubt: "in_doubt",
    Unavailable: "unavailable",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP call, before it is written to the attempt log.

    ``call`` is a value of ``OutboxAttempt.Call``. ``seconds`` is how long the call took, ``status`` the HTTP status.
    """

    call: str
    started_at: datetime
    outcome: str
    status: int | None = None
    seconds: float | None = None
    detail: str = ""

    @classmethod
    def of(cls, call: str, started_at: datetime, outcome: Outcome | None, answer: Answer | None) -> Attempt:
        """Return the attempt for an answer or for an outcome without one. A read that succeeds has no outcome."""
        name = OUTCOME_NAMES[type(outcome)] if outcome else "read"
        if answer is None:
            return cls(call, started_at, name, detail=getattr(outcome, "message", ""))
        detail = clean_text(answer.body, DETAIL_LENGTH, keep_lines=True)
        return cls(call, started_at, name, answer.status, answer.seconds, detail)

    def save(self, context: DeliveryContext, batch: OutboxBatch | None) -> None:
        """Insert the row. ``batch`` is None for a listing, which covers many batches."""
        OutboxAttempt(
            batch_id=batch.pk if batch else None,
            workspace=context.workspace_name,
            api_key=context.key_fingerprint,
            call=self.call,
            started_at=self.started_at,
            seconds=self.seconds,
            status=self.status,
            outcome=self.outcome,
            detail=self.detail,
        ).save(using=context.using, force_insert=True)

    def is_saved(self, context: DeliveryContext, batch: OutboxBatch) -> bool:
        """Return whether the row exists."""
        rows = OutboxAttempt.objects.using(context.using)
        return rows.filter(batch=batch, call=self.call, started_at=self.started_at).exists()
