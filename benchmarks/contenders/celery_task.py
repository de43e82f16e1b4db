"""No outbox: a Celery task for each record, published when the transaction commits."""

from celery import Celery

from .base import *  # noqa: F403
from .http_client import post

app = Celery("benchmarks.contenders.celery_task")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(name="deliver", autoretry_for=(OSError,), retry_backoff=True)
def deliver(record):
    """Post the record to the API."""
    post(record)


def enqueue(record):
    """Publish a task for the record when the open transaction commits."""
    from django.db import transaction

    transaction.on_commit(lambda: deliver.delay(record))
