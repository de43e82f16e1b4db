"""The states of a record, and the changes between them that are legal."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .transitions import Transition


class RecordState(models.TextChoices):
    """The states of a record. Every committed record is in exactly one of them."""

    PENDING = "pending", _("pending")
    IN_FLIGHT = "in_flight", _("in flight")
    DELIVERED = "delivered", _("delivered")
    REJECTED = "rejected", _("rejected")
    SUPERSEDED = "superseded", _("superseded")
    DISCARDED = "discarded", _("discarded")


CLOSING = (RecordState.REJECTED, RecordState.SUPERSEDED, RecordState.DISCARDED)
"""States that are stored in ``closed_as``; the others follow from the batch."""

GIVEN_UP = "GIVEN_UP"
"""Code of records whose batch a person gave up."""

FAILED_CODES = ("FAILED", "NOT_SENDABLE", GIVEN_UP)
"""Codes that the outbox gives to rejected records of a batch that ended without a clear result. Evermuse may have
accepted these records."""

TRANSITIONS = {
    "take_into": Transition((RecordState.PENDING,), RecordState.IN_FLIGHT),
    "release": Transition((RecordState.IN_FLIGHT,), RecordState.PENDING),
    "reject": Transition((RecordState.PENDING, RecordState.IN_FLIGHT), RecordState.REJECTED),
    "supersede": Transition((RecordState.PENDING, RecordState.IN_FLIGHT), RecordState.SUPERSEDED),
    "correct": Transition((RecordState.REJECTED,), RecordState.SUPERSEDED),
    "discard": Transition((RecordState.PENDING, RecordState.REJECTED), RecordState.DISCARDED),
    "reopen": Transition((RecordState.REJECTED,), RecordState.PENDING),
    "replace": Transition((RecordState.REJECTED,), RecordState.SUPERSEDED),
}
