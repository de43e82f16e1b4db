"""A worker with greenlets."""

from tests.hosts.base import *  # noqa: F403

NEEDS = ["postgres", "redis", "gevent"]
WORKER = ["-P", "gevent", "-c", "10"]
