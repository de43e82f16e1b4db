"""evermuse_outbox in the example project, with a Celery worker and beat."""

from benchmarks.settings import *  # noqa: F403


def enqueue(record):
    """Enqueue the record in the open transaction."""
    from evermuse_outbox import outbox

    outbox.enqueue(record)


def enqueue_many(records):
    """Enqueue the records in one call."""
    from evermuse_outbox import outbox

    outbox.enqueue_many(records)
