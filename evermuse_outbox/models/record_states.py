"""The states of a record as conditions, and the changes between them that are legal."""

from __future__ import annotations

from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.utils.translation import gettext_lazy as _

from .batch_states import BatchState
from .query_hints import is_null_unindexed
from .transitions import Transition


class RecordState(models.TextChoices):
    """The states of a record. Every committed record is in exactly one of them."""

    PENDING = "pending", _("pending")
    IN_FLIGHT = "in_flight", _("in flight")
    DELIVERED = "delivered", _("delivered")
    REJECTED = "rejected", _("rejected")
    SUPERSEDED = "superseded", _("superseded")
    DISCARDED = "discarded", _("discarded")
    SCHEDULED = "scheduled", _("scheduled")
    HELD = "held", _("held")
    EXPIRED = "expired", _("expired")


class PayloadDropped(LookupError):
    """The payload of a delivered record was dropped, or its data key is missing or destroyed."""


DEFERRED = (RecordState.SCHEDULED, RecordState.HELD)
"""States of records that are not sent now, but later. They are closed to sealing, so ``closed_as`` has them."""

CLOSING = (
    RecordState.REJECTED,
    RecordState.SUPERSEDED,
    RecordState.DISCARDED,
    *DEFERRED,
    RecordState.EXPIRED,
)
"""States that are stored in ``closed_as``; the others follow from the batch."""

GIVEN_UP = "GIVEN_UP"
"""Code of records whose batch a person gave up."""

ALTERED = "ALTERED"
"""Code of records that were never sent, because the database does not have what was enqueued."""

KEY_DESTROYED = "KEY_DESTROYED"
"""Code of records that were not sent, because a person destroyed the data key of their payload."""

NOT_RENEWED = "URL_NOT_RENEWED"
"""Code of records that were not sent, because the function of the setting RENEW_URL gave no URL for an attachment."""

NOT_SENDABLE = "NOT_SENDABLE"
"""Code of records of a sealed batch that cannot be sent again."""

FAILED_CODES = ("FAILED", NOT_SENDABLE, GIVEN_UP)
"""Codes that the outbox gives to rejected records of a batch that ended without a clear result. Evermuse may have
accepted these records."""

TRANSITIONS = {
    "take_into": Transition((RecordState.PENDING,), RecordState.IN_FLIGHT),
    "release": Transition((RecordState.IN_FLIGHT,), RecordState.PENDING),
    "reject": Transition((RecordState.PENDING, RecordState.IN_FLIGHT), RecordState.REJECTED),
    "supersede": Transition((RecordState.PENDING, RecordState.IN_FLIGHT), RecordState.SUPERSEDED),
    "coalesce": Transition((RecordState.SCHEDULED,), RecordState.SUPERSEDED),
    "correct": Transition((RecordState.REJECTED,), RecordState.SUPERSEDED),
    "discard": Transition((RecordState.PENDING, RecordState.REJECTED, *DEFERRED), RecordState.DISCARDED),
    "hold": Transition((RecordState.PENDING,), RecordState.HELD),
    "make_due": Transition(DEFERRED, RecordState.PENDING),
    "expire": Transition((RecordState.PENDING, *DEFERRED), RecordState.EXPIRED),
    "reopen": Transition((RecordState.REJECTED,), RecordState.PENDING),
    "replace": Transition((RecordState.REJECTED,), RecordState.SUPERSEDED),
}

STATE = Case(
    When(closed_as__isnull=False, then=F("closed_as")),
    When(batch__isnull=True, then=Value(RecordState.PENDING.value)),
    When(batch__state=BatchState.COMPLETE, then=Value(RecordState.DELIVERED.value)),
    default=Value(RecordState.IN_FLIGHT.value),
    output_field=models.CharField(choices=RecordState.choices),
)

# The two conditions of pending(), written so that no partial index matches. For rows that are found by id or identity.
NO_BATCH, STILL_OPEN = is_null_unindexed("batch_id", never=0), is_null_unindexed("closed_as", never="")

STILL_PENDING = NO_BATCH & STILL_OPEN

PENDING = Q(batch__isnull=True, closed_as__isnull=True)
REJECTED = Q(closed_as=RecordState.REJECTED)
IS_DEFERRED = Q(closed_as__in=[state.value for state in DEFERRED])
HAS_LABELS = Q(label_set_id__isnull=False)

SOURCE_CONDITIONS: dict[tuple[str, ...], Q] = {
    (RecordState.PENDING,): STILL_PENDING,
    (RecordState.IN_FLIGHT,): STILL_OPEN,  # each of these changes names the batch, too
    (RecordState.PENDING, RecordState.IN_FLIGHT): STILL_OPEN,
    (RecordState.PENDING, RecordState.REJECTED, *DEFERRED): PENDING | REJECTED | IS_DEFERRED,
    (RecordState.REJECTED,): REJECTED,
    (RecordState.SCHEDULED,): Q(closed_as=RecordState.SCHEDULED),
    DEFERRED: IS_DEFERRED,
    (RecordState.PENDING, *DEFERRED): (NO_BATCH & STILL_OPEN) | IS_DEFERRED,
}
"""Source states of a transition → their condition. A record has no column ``state``."""
