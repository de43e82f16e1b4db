"""The scheduler RedBeat, which keeps its schedule in Redis."""

from tests.hosts.base import *  # noqa: F403
from tests.hosts.base import CELERY_TASK_DEFAULT_QUEUE, REDIS_URL

NEEDS = ["redis", "redbeat"]
EXPECTED_LOG = "set redbeat_redis_url explicitly"  # it misses names that begin with CELERY_

CELERY_BEAT_SCHEDULER = "redbeat.RedBeatScheduler"
CELERY_REDBEAT_REDIS_URL = REDIS_URL
CELERY_REDBEAT_KEY_PREFIX = f"{CELERY_TASK_DEFAULT_QUEUE}:redbeat:"
