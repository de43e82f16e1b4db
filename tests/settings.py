"""The example project on the databases that this machine has.

``default`` is always SQLite. ``postgres`` and ``mariadb`` come from ``TEST_POSTGRES_URL`` and ``TEST_MARIADB_URL``, or
from their default local ports. Tests on a missing database are skipped, and the reason names it.
"""

import os
import sys

from example_project.settings import *  # noqa: F403
from tests.services import MARIADB_URL, POSTGRES_URL, VAR_DIR

from example_project.settings import database  # isort: skip

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATABASES = {
    "default": database("TEST_SQLITE_URL", default=f"sqlite:///{VAR_DIR / 'test-default.sqlite3'}"),
}
DATABASES["default"]["TEST"] = {"NAME": str(VAR_DIR / f"test-{os.getpid()}.sqlite3")}
if POSTGRES_URL:
    DATABASES["postgres"] = database("TEST_POSTGRES_URL", default=POSTGRES_URL)
    DATABASES["postgres"]["TEST"] = {"NAME": f"test_evermuse_{os.getpid()}"}
if MARIADB_URL:
    DATABASES["mariadb"] = database("TEST_MARIADB_URL", default=MARIADB_URL)
    DATABASES["mariadb"]["TEST"] = {"NAME": f"test_evermuse_{os.getpid()}", "CHARSET": "utf8mb4"}
    if DATABASES["mariadb"]["HOST"] == "127.0.0.1" and "pymysql" in sys.modules:
        # Without this, each connection reads all certificates of this machine, although it does not use TLS.
        DATABASES["mariadb"]["OPTIONS"]["ssl_disabled"] = True

DATABASE_ROUTERS = ["tests.refusing_router.RefusingRouter"]
MIDDLEWARE = ["tests.strict_policy.strict_policy", *MIDDLEWARE]  # noqa: F405
CELERY_BROKER_URL = "memory://"
EVERMUSE_OUTBOX = {
    "API_URL": "http://127.0.0.1:1",
    "API_KEY": "em_sk_test",
    "DATABASES": list(DATABASES),
    "LINGER": 0,
    "WAKE_ON_COMMIT": False,
}
