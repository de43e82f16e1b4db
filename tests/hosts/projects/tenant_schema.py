"""Tables in a schema of PostgreSQL that only the search path of the connection names."""

from tests.hosts.base import *  # noqa: F403
from tests.hosts.base import DATABASES

NEEDS = ["postgres", "redis"]

DATABASES["default"]["OPTIONS"] = {"options": "-c search_path=tenant_a"}


def before_migrate():
    """Create the schema."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA tenant_a")
