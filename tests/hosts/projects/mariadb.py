"""MariaDB with Redis."""

from tests.hosts.base import *  # noqa: F403

NEEDS = ["mariadb", "redis"]
