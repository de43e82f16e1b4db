"""A worker that replaces its process after five tasks, and acknowledges a message only when the task is done."""

from tests.hosts.base import *  # noqa: F403

NEEDS = ["postgres", "redis"]
WORKER = ["-P", "prefork", "-c", "2", "--max-tasks-per-child", "5"]

CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
