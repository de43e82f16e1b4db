"""A router that sends every read to a replica, which the worker and the scheduler cannot reach."""

import sys

from tests.hosts.base import *  # noqa: F403
from tests.hosts.base import DATABASES

NEEDS = ["postgres", "redis"]

DATABASES["replica"] = {**DATABASES["default"]}
if "celery" in sys.argv[0]:
    DATABASES["replica"]["PORT"] = 1
DATABASE_ROUTERS = ["tests.hosts.projects.replica_router.ReplicaRouter"]


class ReplicaRouter:
    """Reads from the replica, and leaves all else to Django."""

    def db_for_read(self, model, **hints):
        """Return the alias of the replica."""
        return "replica"
