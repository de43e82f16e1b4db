"""The settings that all hosts start from: the example project, without debugging, with short pauses.

The test chooses the database, the broker, the queue and the API key by environment variables.
"""

import os

from example_project.settings import *  # noqa: F403
from example_project.settings import EVERMUSE_OUTBOX

DEBUG = False
ROOT_URLCONF = "tests.hosts.urls"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EVERMUSE_OUTBOX = EVERMUSE_OUTBOX | {
    "LINGER": 0.1,
    "POLL_INTERVAL": 0.2,
    "FIXES": {"nature": "tests.fixes.nature"},
}
SILENCED_SYSTEM_CHECKS = ["evermuse_outbox.W007"]  # a server for tests may run without autovacuum

TEXT = "Grüße 😀 你好"
"""The text of each record."""

ENQUEUE_PATH = "/enqueue/"
"""The page that enqueues the records; see ``urls.py``."""

HOME = os.environ.get("EXAMPLE_VAR_DIR", "")
