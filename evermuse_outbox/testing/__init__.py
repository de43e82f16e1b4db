"""Helpers for the tests of host projects: read what was enqueued, and deliver it within the test.

This package runs the real delivery against a sandbox, which is a local Evermuse API, without workers and without
waiting. It must not be used in production code. Its functions are :func:`enqueued`, :func:`local_evermuse` and
:func:`deliver`; :class:`Unpaced` is a throttle without a limit.
"""

from .delivery import Unpaced, deliver, enqueued, local_evermuse

__all__ = ["Unpaced", "deliver", "enqueued", "local_evermuse"]
