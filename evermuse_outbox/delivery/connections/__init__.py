"""Database connections of the threads of a worker: none is held during HTTP, a wait for a permit or idle time.

This package must not run a statement of its own, except to find out whether a connection still works.
Its public interface is ``share_connections`` for a thread of a worker, ``release_connections`` around a wait,
``release_other_pools`` and ``drop_connections`` for the retries, and ``close_thread_connections``.
"""

from .sharing import (
    close_thread_connections,
    drop_connections,
    release_connections,
    release_other_pools,
    share_connections,
)

__all__ = [
    "close_thread_connections",
    "drop_connections",
    "release_connections",
    "release_other_pools",
    "share_connections",
]
