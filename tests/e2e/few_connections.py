"""Settings of the example host with one record in a request and, if POOL_SIZE is set, Django's connection pool."""

import os

from example_project.settings import *  # noqa: F403
from example_project.settings import DATABASES, EVERMUSE_OUTBOX

EVERMUSE_OUTBOX["MAX_BATCH_RECORDS"] = 1
if "POOL_SIZE" in os.environ:
    size = int(os.environ["POOL_SIZE"])
    DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 1, "max_size": size, "timeout": 10}}
