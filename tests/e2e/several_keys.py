"""Settings of the example host with the API keys of ``EVERMUSE_API_KEYS``, short leases and small requests."""

import os

from tests.e2e.short_timeouts import *  # noqa: F403
from tests.e2e.short_timeouts import EVERMUSE_OUTBOX

first, *further = os.environ["EVERMUSE_API_KEYS"].split(",")
EVERMUSE_OUTBOX |= {"API_KEY": first, "API_KEYS": further, "MAX_BATCH_RECORDS": 5}
