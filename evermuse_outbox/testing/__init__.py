"""For a host's own tests: what was enqueued, and a delivery in the test's own process."""

from .delivery import Unpaced, deliver, enqueued, local_evermuse

__all__ = ["Unpaced", "deliver", "enqueued", "local_evermuse"]
