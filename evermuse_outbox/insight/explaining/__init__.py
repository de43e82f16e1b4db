"""Explain in a few sentences why a row is in its state, and what happens next.

The functions only read, and each costs a few small queries.
"""

from .attachments import has_failed_attachments
from .explain import START_WORKER, explain_batch, explain_group, explain_record, explain_workspace
from .times import format_time, to_local_time

__all__ = [
    "START_WORKER",
    "explain_batch",
    "explain_group",
    "explain_record",
    "explain_workspace",
    "format_time",
    "has_failed_attachments",
    "to_local_time",
]
