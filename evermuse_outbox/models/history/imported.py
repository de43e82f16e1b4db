"""How far the import of each file has come, so that an interrupted import continues and imports nothing twice."""

from __future__ import annotations

import uuid
from datetime import datetime
from hashlib import sha256
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..columns import ForeignCharField


class ImportQuerySet(models.QuerySet["OutboxImport"]):
    """Writes of the progress of imports."""

    def of(self, workspace: str, name: str) -> ImportQuerySet:
        """Return the import with that name into that workspace, or nothing."""
        return self.filter(scope=import_key(workspace, name))

    def take_over(self, progress: OutboxImport) -> None:
        """Give the import to this process. A process that had it before changes it no more."""
        progress.run = uuid.uuid4()
        self.filter(pk=progress.pk).update(run=progress.run)

    def advance(self, progress: OutboxImport, now: datetime, **columns: Any) -> bool:
        """Write how far an import has come. Return False if another process has taken it over meanwhile.

        Call it in the transaction that inserts the records.
        """
        unchanged = self.filter(pk=progress.pk, position=progress.position, run=progress.run)
        if not unchanged.update(updated_at=now, **columns):
            return False
        for name, value in columns.items():
            setattr(progress, name, value)
        return True


class OutboxImport(models.Model):
    """The progress of one import: the bytes of the file that were read, and what became of their lines."""

    scope = models.CharField(_("scope"), max_length=64, unique=True, editable=False)
    workspace = models.CharField(_("workspace"), max_length=64)
    name = ForeignCharField(
        _("name"), max_length=400, help_text=_("The path of the file, or the name given to the import.")
    )
    position = models.PositiveBigIntegerField(
        _("position"), default=0, help_text=_("Bytes of the file that were read.")
    )
    sha256 = models.CharField(_("SHA-256"), max_length=64, help_text=_("Hash of the bytes that were read."))
    lines = models.PositiveBigIntegerField(_("lines"), default=0)
    records = models.PositiveBigIntegerField(_("records"), default=0)
    bad_lines = models.PositiveBigIntegerField(_("bad lines"), default=0)
    bad_bytes = models.PositiveBigIntegerField(
        _("bytes of bad lines"), default=0, help_text=_("Size of the file with the bad lines.")
    )
    action = models.ForeignKey(
        "evermuse_outbox.OutboxAction",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_constraint=False,
        related_name="+",
        verbose_name=_("manual action"),
    )
    run = models.UUIDField(
        _("run"),
        default=uuid.uuid4,
        editable=False,
        help_text=_("Fencing token of the process that imports it."),
    )
    started_at = models.DateTimeField(_("started at"))
    updated_at = models.DateTimeField(_("updated at"))
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    objects = ImportQuerySet.as_manager()

    class Meta:
        verbose_name = _("import")
        verbose_name_plural = _("imports")
        ordering = ["-pk"]

    def __str__(self) -> str:
        return str(self.name)


def import_key(workspace: str, name: str) -> str:
    """Return the ``scope`` of an import, which every database compares exactly."""
    return sha256(f"{len(workspace)}:{workspace}{name}".encode("utf-8", "surrogateescape")).hexdigest()
