"""PgBouncer in transaction mode, with three connections to the server."""

from tests.hosts.base import *  # noqa: F403
from tests.hosts.base import DATABASES

NEEDS = ["postgres", "pgbouncer", "redis"]

DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = True
