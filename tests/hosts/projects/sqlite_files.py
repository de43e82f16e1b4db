"""No server: SQLite, and a broker that stores messages as files."""

from tests.hosts.base import *  # noqa: F403
