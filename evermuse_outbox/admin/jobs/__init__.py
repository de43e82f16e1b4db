"""Jobs in the admin: started from a list or a page, shown with a preview, confirmed, followed, paused and cancelled.

This package changes nothing itself: the engine of ``evermuse_outbox.jobs`` does. Pages inherit from :class:`JobAdmin`.
The page of records, which can be edited, inherits from :class:`EditAdmin`. A :class:`Selection` is what a person has
selected in a list. :func:`may_start` tells whether a user may start a job.
"""

from .edit import EditAdmin
from .page import OutboxOperationAdmin
from .selection import Selection
from .start import JobAdmin, may_start, page_of_job

__all__ = ["EditAdmin", "JobAdmin", "OutboxOperationAdmin", "Selection", "may_start", "page_of_job"]
