"""The kind of job that a backfill is. The command ``outbox_backfill`` executes it, because it waits for live traffic.

Its row has the progress. A page of the admin shows it, and pauses, continues or cancels it like every other job.
"""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from ..jobs import Kind, register
from ..models import BACKFILL, ActionKind


@register
class Backfill(Kind):
    """Enqueue the records of the rows of a model. It has no members: the row of the job stores the last primary key."""

    name, label, action = BACKFILL, _("Backfill"), ActionKind.IMPORT
    permission, has_members = "retry_outboxrecord", False
