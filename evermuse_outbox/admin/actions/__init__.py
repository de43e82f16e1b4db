"""What people can change in the admin: retry rejected records, and end the wait of batches, workspaces and groups.

This package has the base classes of pages with these actions, their views and their messages. It sends nothing, and
its only page is the confirmation of a retry. Pages inherit from :class:`RetryAdmin`, :class:`ExitAdmin` or
:class:`ResumeAdmin`, and :func:`rejected_of_batches` finds the records to retry for batches.
"""

from .exits import Exit, ExitAdmin
from .resume import RESUME, ResumeAdmin
from .retry import RetryAdmin, rejected_of_batches

__all__ = ["RESUME", "Exit", "ExitAdmin", "ResumeAdmin", "RetryAdmin", "rejected_of_batches"]
