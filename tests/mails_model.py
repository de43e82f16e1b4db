"""A declaration for a model of the example project that has none: its mails. Tests register it for their time."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from evermuse_outbox.model_records import ModelRecord, record_of
from evermuse_outbox.model_records.registry import forget
from example_project.support.models import Email

FIRST = datetime(2026, 3, 1, tzinfo=UTC)


class MailRecord(ModelRecord[Email]):
    type = "email"
    event_at = "sent_at"
    vendor_ids = {"fingerprint": "fingerprint"}
    fields = ("subject", "body")
    product_id, project_id = "prod-mail", "proj-1"


@contextmanager
def declared_as(declaration=MailRecord, model=Email):
    """Use a declaration inside the ``with`` block."""
    record_of(model)(declaration)
    try:
        yield
    finally:
        forget(model)


def mail(number=0, **values):
    """Return a mail that is not saved."""
    defaults = {
        "fingerprint": f"mail-{number}",
        "message_id": f"<{number}@example.com>",
        "subject": f"Subject {number}",
        "sent_at": FIRST + timedelta(seconds=number),
        "body": "Hello",
    }
    return Email(**{**defaults, **values})


def insert_mails(alias, count, *, first=0, **values):
    """Insert mails without records, as if they were there before the declaration."""
    from django.db.models import QuerySet

    rows = QuerySet(Email, using=alias)
    return rows.bulk_create([mail(number, **values) for number in range(first, first + count)])
