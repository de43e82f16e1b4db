"""Tasks that run at once in the process that requests them, and ``outbox_relay`` in place of workers."""

from tests.hosts.base import *  # noqa: F403

NEEDS = ["postgres"]
WORKER = []

CELERY_TASK_ALWAYS_EAGER = True
