"""django-celery-outbox: the transaction stores a task's message, a relay publishes it, and a worker runs the task."""

import logging
import os

import structlog
from django_celery_outbox import OutboxCelery

from .base import *  # noqa: F403
from .base import INSTALLED_APPS
from .http_client import post

INSTALLED_APPS = [*INSTALLED_APPS, "django_celery_outbox"]
CELERY_OUTBOX_APP = f"{__name__}.app"

# Turn off log lines and metrics for each message, because the other contenders do not write them either.
os.environ.setdefault("DD_DOGSTATSD_DISABLE", "true")
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

app = OutboxCelery("benchmarks.contenders.celery_outbox")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(name="deliver", autoretry_for=(OSError,), retry_backoff=True)
def deliver(record):
    """Post the record to the API."""
    post(record)


def enqueue(record):
    """Enqueue the record in the open transaction."""
    deliver.delay(record)
