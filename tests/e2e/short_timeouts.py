"""Settings of the example host with short timeouts, leases and pauses, so that a test sees many of them expire."""

import os

from example_project.settings import *  # noqa: F403
from example_project.settings import CELERY_BEAT_SCHEDULE, EVERMUSE_OUTBOX

EVERMUSE_OUTBOX |= {
    "TIMEOUT": 1,
    "LEASE": 7,
    "BACKOFF_BASE": 0.1,
    "BACKOFF_CAP": 1,
    "POLL_INTERVAL": 0.2,
    "MAX_RESENDS": 10,
    "MAX_BATCH_RECORDS": 25,
}
CELERY_BEAT_SCHEDULE["evermuse-outbox-maintain"]["schedule"] = 2.0
if "EPOCH_DIRECTORY" in os.environ:
    EVERMUSE_OUTBOX["EPOCH_DIRECTORY"] = os.environ["EPOCH_DIRECTORY"]
