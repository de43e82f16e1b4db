"""Parameters that the server binds, and prepared statements."""

from tests.hosts.base import *  # noqa: F403
from tests.hosts.base import DATABASES

NEEDS = ["postgres", "redis"]

DATABASES["default"]["CONN_MAX_AGE"] = None
DATABASES["default"]["OPTIONS"] = {"server_side_binding": True, "prepare_threshold": 0}
