"""Keys of Redis with a prefix, and messages as pickles; a worker accepts no other format."""

from tests.hosts.base import *  # noqa: F403
from tests.hosts.base import CELERY_TASK_DEFAULT_QUEUE

NEEDS = ["redis"]

CELERY_BROKER_TRANSPORT_OPTIONS = {"global_keyprefix": f"{CELERY_TASK_DEFAULT_QUEUE}:"}
CELERY_TASK_SERIALIZER = "pickle"
CELERY_ACCEPT_CONTENT = ["pickle"]
