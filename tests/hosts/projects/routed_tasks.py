"""Tasks that only ``task_routes`` sends to the queue of the worker; nothing reads the default queue."""

from kombu import Queue

from tests.hosts.base import *  # noqa: F403
from tests.hosts.base import CELERY_TASK_DEFAULT_QUEUE

NEEDS = ["redis"]

CELERY_TASK_ROUTES = {"evermuse_outbox.*": {"queue": CELERY_TASK_DEFAULT_QUEUE}}
CELERY_TASK_QUEUES = [Queue(CELERY_TASK_DEFAULT_QUEUE)]
CELERY_TASK_DEFAULT_QUEUE = f"{CELERY_TASK_DEFAULT_QUEUE}-nothing"
