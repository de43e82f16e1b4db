"""The message of a task that waits in Celery's queue: one row for each task and workspace."""

from __future__ import annotations

from django.db import models
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from ...database_clock import EpochNow
from ..columns import ForeignCharField


class MessageQuerySet(models.QuerySet["OutboxMessage"]):
    """Each change is one statement. Its condition lets only one of several processes succeed."""

    def read(self, name: str) -> OutboxMessage | None:
        """Return the row of a message with the database's time as ``now``, or None before the first message."""
        return self.filter(pk=name).annotate(now=EpochNow()).first()  # type: ignore[no-redef]

    def ensure(self, name: str, task: str) -> None:
        """Create the row of a message, unless it exists."""
        self.bulk_create([self.model(name=name, task=task)], ignore_conflicts=True)

    def claim(self, name: str) -> bool:
        """Claim to publish a message. Return False if one waits already."""
        changes = {"waiting_since": EpochNow(), "checked_at": EpochNow(), "copies": 1}
        return bool(self.filter(pk=name, waiting_since__isnull=True).update(**changes))

    def claim_again(self, message: OutboxMessage) -> bool:
        """Claim to publish a message a second time. Return False if another process did or a worker has taken it."""
        changes = {"checked_at": EpochNow(), "copies": F("copies") + 1}
        return bool(self._unchanged(message).update(**changes))

    def postpone_check(self, message: OutboxMessage) -> None:
        """Store that a message was seen in the queue now."""
        self._unchanged(message).update(checked_at=EpochNow())

    def take(self, name: str) -> bool:
        """Store that no message waits. Return False if none waited."""
        return bool(self.filter(pk=name, waiting_since__isnull=False).update(waiting_since=None))

    def longest_waiting(self) -> list[str]:
        """Return the names of the messages that wait, the one that has waited longest first."""
        rows = self.filter(waiting_since__isnull=False).order_by("waiting_since")
        return list(rows.values_list("pk", flat=True))

    def count_waiting(self, task: str, seconds: float) -> int:
        """Return how many messages of a task wait for at most so many seconds. The broker may have lost older ones."""
        return self.filter(task__startswith=f"{task} ", waiting_since__gte=EpochNow() - seconds).count()

    def _unchanged(self, message: OutboxMessage) -> MessageQuerySet:
        return self.filter(pk=message.name, waiting_since__isnull=False, copies=message.copies)


class OutboxMessage(models.Model):
    """Whether a message of a task and a workspace waits in Celery's queue. Times are seconds since the epoch.

    A row may be wrong after a broker has lost its messages; see ``evermuse_outbox.messages``.
    """

    name = models.CharField(_("name"), max_length=32, primary_key=True)
    task = ForeignCharField(_("task"), max_length=160, help_text=_("Name of the task and of its workspace."))
    waiting_since = models.FloatField(_("waiting since"), null=True)
    checked_at = models.FloatField(_("checked at"), default=0)
    copies = models.PositiveIntegerField(_("times published"), default=0)

    now: float  # set only on rows from `read`

    objects = MessageQuerySet.as_manager()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")

    def __str__(self) -> str:
        return str(self.task)
