"""The example project as it would run in production, for measuring: no debug, few words in the log."""

import json
import os

from example_project.settings import *  # noqa: F403
from example_project.settings import EVERMUSE_OUTBOX, LOGGING

DEBUG = False
EVERMUSE_OUTBOX = EVERMUSE_OUTBOX | json.loads(os.environ.get("BENCHMARK_OUTBOX", "{}"))
LOGGING = LOGGING | {"root": {"handlers": ["console"], "level": "WARNING"}}
