"""Runs: records that belong together, and how far they have come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from django.db import connections, models, transaction
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from ..columns import ForeignCharField

MAX_RUN_NAME = 200
"""Maximum characters of the name of a run."""


class RunQuerySet(models.QuerySet["OutboxRun"]):
    """The predicates on runs, and every write of one."""

    def open_or_start(
        self, workspace: str, name: str, now: datetime, labels: Mapping[str, str], expected: int | None
    ) -> OutboxRun:
        """Return the open run of this name; start it if there is none.

        A transaction that starts the same run meanwhile is waited for.
        """
        key = run_key(workspace, name)
        rows = self.filter(open_key=key)
        if run := rows.first():
            return run
        new = OutboxRun(
            workspace=workspace,
            name=name,
            open_key=key,
            labels=dict(labels),
            expected=expected,
            started_at=now,
            count_at=now,
        )
        if connections[self.db].vendor != "mysql":
            self.bulk_create([new], ignore_conflicts=True)
            return rows.get()
        # INSERT IGNORE would lock an existing row in shared mode, and two transactions that then update it deadlock.
        # With REPEATABLE READ, only a locking read shows a row of a transaction that has committed meanwhile.
        with transaction.atomic(using=self.db, savepoint=False):
            self.bulk_create([new], update_conflicts=True, update_fields=["open_key"])
            return rows.select_for_update().get()

    def close(self, pk: int, now: datetime) -> bool:
        """Record that no more records will join the run. Return False if it was closed before."""
        is_open = self.filter(pk=pk, closed_at__isnull=True)
        return bool(is_open.update(closed_at=now, open_key=None, count_at=now))

    def unfinished_first(self) -> RunQuerySet:
        """Return the runs that are not finished, then the others; the latest first."""
        return self.order_by(F("finished_at").desc(nulls_first=True), "-pk")

    def claim_due(self, now: datetime, until: datetime) -> OutboxRun | None:
        """Give the run that is due for the longest time to this process until ``until``. Return None if none is due."""
        due = self.filter(count_at__lte=now).order_by("count_at", "pk").first()
        if due is None or not self.filter(pk=due.pk, count_at=due.count_at).update(count_at=until):
            return None
        due.count_at = until
        return due

    def record_count(self, claimed: OutboxRun, **columns: Any) -> bool:
        """Store the result of a count. Return False if the run was closed or claimed meanwhile."""
        unchanged = self.filter(pk=claimed.pk, count_at=claimed.count_at)
        return bool(unchanged.update(**columns))

    def add_purged(self, counts: Mapping[int, Mapping[str, int]]) -> None:
        """Add records that are purged to the counts of their runs: run → state → count."""
        rows = self.filter(pk__in=counts).order_by("pk")
        if connections[self.db].features.has_select_for_update:
            rows = rows.select_for_update()
        for run in rows:
            purged = Counter(run.purged) + Counter(counts[run.pk])
            self.filter(pk=run.pk).update(purged=dict(purged))


class OutboxRun(models.Model):
    """Records that belong together, such as those of one import. Its members are the records of its label sets."""

    workspace = models.CharField(_("workspace"), max_length=64)
    name = ForeignCharField(_("name"), max_length=MAX_RUN_NAME)
    open_key = models.CharField(
        _("open key"), max_length=64, unique=True, null=True, blank=True, editable=False
    )
    labels = models.JSONField(_("labels"), default=dict, help_text=_("Labels of all records of the run."))
    expected = models.PositiveBigIntegerField(
        _("expected records"), null=True, blank=True, help_text=_("How many records the run will have.")
    )
    started_at = models.DateTimeField(_("started at"))
    closed_at = models.DateTimeField(
        _("closed at"), null=True, blank=True, help_text=_("Since then, no more records join the run.")
    )
    finished_at = models.DateTimeField(
        _("finished at"),
        null=True,
        blank=True,
        help_text=_("The run is closed, and no record of it waits or is in flight."),
    )
    counts = models.JSONField(_("records by state"), default=dict, help_text=_("As last counted."))
    history = models.JSONField(
        _("history"), default=list, help_text=_("Time, ended records and all records of earlier counts.")
    )
    purged = models.JSONField(
        _("purged records by state"), default=dict, help_text=_("Records that were purged after their end.")
    )
    counted_at = models.DateTimeField(_("counted at"), null=True, blank=True)
    count_at = models.DateTimeField(
        _("next count"), null=True, blank=True, help_text=_("When workers count the records again.")
    )
    needs_person_since = models.DateTimeField(
        _("needs a person since"), null=True, blank=True, help_text=_("Records of the run are rejected.")
    )

    objects = RunQuerySet.as_manager()

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        indexes = [
            models.Index(name="evermuse_run_count_at", fields=["count_at"]),
            models.Index(name="evermuse_run_name", fields=["name"]),
        ]

    def __str__(self) -> str:
        return str(self.name)


def run_key(workspace: str, name: str) -> str:
    """Return the ``open_key`` of a run, which every database compares exactly."""
    return sha256(f"{len(workspace)}:{workspace}{name}".encode("utf-8", "surrogateescape")).hexdigest()
