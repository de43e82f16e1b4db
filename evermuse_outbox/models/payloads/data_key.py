"""Data keys: one row for each key that encrypts lines, encrypted itself by a master key of the settings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from django.db import connections, models
from django.utils.translation import gettext_lazy as _

from ...encryption import Altered, MasterKeyMissing, WrappedKey, rewrap


class DataKeyQuerySet(models.QuerySet["OutboxDataKey"]):
    """Predicates and changes of data keys."""

    def of_scope(self, workspace: str, label: str = "") -> DataKeyQuerySet:
        """Return the keys of one scope."""
        return self.filter(workspace=workspace, label=label)

    def usable(self, since: datetime) -> DataKeyQuerySet:
        """Return the keys that encrypt new lines, the newest first: made after ``since``, and not retired."""
        return self.filter(retired_at__isnull=True, destroyed_at__isnull=True, created_at__gt=since).order_by(
            "-pk"
        )

    def retire(self, now: datetime) -> int:
        """Begin the destruction: stop the use of these keys for new lines. Return how many changed."""
        return self.filter(retired_at__isnull=True).update(retired_at=now)

    def locked(self) -> DataKeyQuerySet:
        """Return the keys by a query that locks their rows until the transaction ends. SQLite has one writer anyway."""
        return self.select_for_update() if connections[self.db].features.has_select_for_update else self

    def doomed(self, pks: Collection[int]) -> set[int]:
        """Lock these keys until the transaction ends, and return those whose destruction has begun or is done.

        What they encrypt must not get another key: it would survive the destruction.
        """
        rows = self.locked().filter(pk__in=pks).order_by("pk").values_list("pk", "retired_at")
        return {pk for pk, retired_at in rows if retired_at}

    def rewrap(self, pks: Sequence[int], master: str) -> dict[int, str]:
        """Wrap these keys by the master key with a fingerprint. Return those that cannot be read, with the reason."""
        unreadable = {}
        for row in self.locked().filter(pk__in=pks, destroyed_at__isnull=True).order_by("pk"):
            try:
                new = rewrap(row.stored, row.scope, master)
            except MasterKeyMissing as error:
                unreadable[row.pk] = str(error)
            except Altered:
                unreadable[row.pk] = "Its row was altered."
            else:
                self.filter(pk=row.pk).update(wrapped=new.wrapped, master=new.master)
        return unreadable

    def destroy(self, now: datetime) -> int:
        """Delete the key material of these keys for good. Return how many changed. The rows stay, and say when."""
        kept = self.filter(destroyed_at__isnull=True)
        return kept.update(wrapped="", master="", destroyed_at=now, retired_at=now)


class OutboxDataKey(models.Model):
    """A key that encrypts lines of one scope: of a workspace, or of one value of a label in it."""

    workspace = models.CharField(_("workspace"), max_length=64)
    label = models.CharField(
        _("label"),
        max_length=256,
        blank=True,
        default="",
        help_text=_("Empty: all records of the workspace."),
    )
    wrapped = models.CharField(
        _("wrapped key"),
        max_length=128,
        blank=True,
        editable=False,
        help_text=_("Empty after its destruction."),
    )
    master = models.CharField(
        _("master key"), max_length=16, blank=True, help_text=_("Fingerprint of the key that wraps it.")
    )
    created_at = models.DateTimeField(_("created at"))
    retired_at = models.DateTimeField(
        _("retired at"), null=True, blank=True, help_text=_("From then on, it encrypts no new payload.")
    )
    destroyed_at = models.DateTimeField(_("destroyed at"), null=True, blank=True)

    objects = DataKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("data key")
        verbose_name_plural = _("data keys")
        permissions = [("manage_outboxdatakey", _("Can encrypt payloads, and rotate and destroy data keys"))]
        indexes = [models.Index(name="evermuse_data_key_scope", fields=["workspace", "label", "id"])]

    def __str__(self) -> str:
        return f"#{self.pk}"

    @property
    def scope(self) -> str:
        """The scope in one text, which the wrapped key is bound to."""
        return make_scope(self.workspace, self.label)

    @property
    def stored(self) -> WrappedKey:
        """The wrapped key with the fingerprint of its master key."""
        return WrappedKey(self.wrapped, self.master)


def make_scope(workspace: str, label: str) -> str:
    """Return a scope in one text."""
    return f"{workspace}\n{label}"
