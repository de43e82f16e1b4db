"""django-celery-outbox: a task's message is written in the transaction, a relay publishes it, a worker runs it."""

import logging
import os

import structlog
from django_celery_outbox import OutboxCelery

from .base import *  # noqa: F403
from .base import INSTALLED_APPS
from .http_client import post

INSTALLED_APPS = [*INSTALLED_APPS, "django_celery_outbox"]
CELERY_OUTBOX_APP = f"{__name__}.app"

# As quiet as all the others: without these, each message writes lines to the console and metrics to nobody.
os.environ.setdefault("DD_DOGSTATSD_DISABLE", "true")
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

app = OutboxCelery("benchmarks.contenders.celery_outbox")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(name="deliver", autoretry_for=(OSError,), retry_backoff=True)
def deliver(record):
    post(record)


def enqueue(record):
    deliver.delay(record)
