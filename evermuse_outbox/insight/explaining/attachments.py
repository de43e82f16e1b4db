"""What is known about the attachments of a record: the API reports numbers for a batch, not for a record."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ...models import OutboxRecord


def has_failed_attachments(record: OutboxRecord) -> bool:
    """Return whether attachments of the record may be missing: some of its batch could not be fetched."""
    batch = record.read_batch()
    return bool(record.attachments and batch and batch.attachment_failed)


def explain_attachments(record: OutboxRecord) -> str:
    """Return what is known about the attachments of a record; an empty text if there is nothing to say."""
    batch = record.read_batch()
    if not record.attachments or batch is None or batch.attachment_total is None:
        return ""
    this_record = ngettext("This record has %(count)s.", "This record has %(count)s.", record.attachments) % {
        "count": record.attachments
    }
    values = {
        "total": batch.attachment_total,
        "complete": batch.attachment_complete or 0,
        "failed": batch.attachment_failed or 0,
    }
    if batch.attachment_failed:
        failed = _("%(failed)s of %(total)s attachments failed in this batch.") % values
        unknown = _("Evermuse does not report which failed.")
        return f"{failed} {this_record} {unknown}"
    if values["complete"] >= values["total"]:
        return _("All %(total)s attachments of this batch were fetched.") % values
    fetched = _("%(complete)s of %(total)s attachments of this batch were fetched so far.") % values
    return f"{fetched} {this_record}"
