"""MariaDB with tables in utf8mb3, and an SQL mode that alters values: a record with an emoji is never sent."""

from tests.hosts.base import *  # noqa: F403
from tests.hosts.base import DATABASES

NEEDS = ["mariadb", "redis"]
EXPECTED_CHECKS = ["evermuse_outbox.W020", "evermuse_outbox.W021", "mysql.W002"]
EXPECTED_LOG = "rejected with ALTERED"

DATABASES["default"]["OPTIONS"]["init_command"] = "SET sql_mode = ''"
TEXT = "Grüße 你好"


def before_migrate():
    """Let new tables have the character set."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE `{DATABASES['default']['NAME']}` CHARACTER SET utf8mb3")


def verify(pages):
    """Enqueue a record that the database alters, and wait until it is rejected."""
    from evermuse_outbox.models import OutboxRecord
    from tests.e2e.host_processes import wait_until
    from tests.records import enqueue

    (row,) = enqueue("default", 3, data={"text": "😀"})
    wait_until(lambda: OutboxRecord.objects.get(pk=row.pk).state == "rejected", "the record is rejected")
