"""Redis as the broker and for the rate limit, with PostgreSQL and a worker that forks its processes."""

from tests.hosts.base import *  # noqa: F403

NEEDS = ["postgres", "redis"]
WORKER = ["-P", "prefork", "-c", "1"]
