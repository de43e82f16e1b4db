"""A transaction around each request, and connections that are kept."""

from tests.hosts.base import *  # noqa: F403
from tests.hosts.base import DATABASES

NEEDS = ["mariadb", "rabbitmq"]

DATABASES["default"]["ATOMIC_REQUESTS"] = True
DATABASES["default"]["CONN_MAX_AGE"] = None
