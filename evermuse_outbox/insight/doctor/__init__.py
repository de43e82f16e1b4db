"""The doctor compares an installation with what the code expects: tables, migrations, workers, clocks and the API.

This package must not change anything, except that a read of the API uses a permit of the rate limit. System checks are
not part of it: the command adds them. Its public interface is :class:`Finding`, :func:`examine_database`,
:func:`examine_api` and :func:`is_relay_at_work`.
"""

from .api import examine_api
from .database import examine_database, is_relay_at_work
from .finding import Finding

__all__ = ["Finding", "examine_api", "examine_database", "is_relay_at_work"]
