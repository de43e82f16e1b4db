"""Isolation finds the bad records of a refused batch, rejects them and sends the good ones on.

This package must not decide what an answer means. Its callers say which records an answer names, and how many records
Evermuse accepted.
Its public interface is ``refuse_batch`` with ``Refusal``, the functions that continue an isolating batch, and the
functions that reject records.
"""

from .group_testing import IsolationTest
from .isolate import (
    Refusal,
    continue_after_accepted,
    continue_after_named,
    continue_without_part,
    lock_isolating_parent,
    refuse_batch,
    start_isolating,
)
from .rejections import (
    LocatedErrors,
    errors_to_json,
    locate_errors,
    open_members,
    reject_located,
    reject_open_members,
)

__all__ = [
    "IsolationTest",
    "LocatedErrors",
    "Refusal",
    "continue_after_accepted",
    "continue_after_named",
    "continue_without_part",
    "errors_to_json",
    "locate_errors",
    "lock_isolating_parent",
    "open_members",
    "refuse_batch",
    "reject_located",
    "reject_open_members",
    "start_isolating",
]
