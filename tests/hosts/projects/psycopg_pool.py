"""Django's own pool of psycopg with four connections for each process, and a worker with more threads than that."""

from tests.hosts.base import *  # noqa: F403
from tests.hosts.base import DATABASES

NEEDS = ["postgres", "redis", "psycopg_pool"]
WORKER = ["-P", "threads", "-c", "6"]

DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 0, "max_size": 4, "timeout": 5}}
