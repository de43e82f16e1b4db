"""No support for time zones, in a zone with daylight saving time."""

from tests.hosts.base import *  # noqa: F403

NEEDS = ["mariadb", "redis"]

USE_TZ = False
TIME_ZONE = "Europe/Berlin"
