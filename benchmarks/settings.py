"""Settings for benchmarks: the example project without debug mode, with warnings as its only log messages."""

import json
import os

from example_project.settings import *  # noqa: F403
from example_project.settings import EVERMUSE_OUTBOX, LOGGING

DEBUG = False
EVERMUSE_OUTBOX = EVERMUSE_OUTBOX | json.loads(os.environ.get("BENCHMARK_OUTBOX", "{}"))
LOGGING = LOGGING | {"root": {"handlers": ["console"], "level": "WARNING"}}
