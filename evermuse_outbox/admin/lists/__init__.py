"""What all lists of the outbox share: they are read-only, and each query has an upper bound of rows.

Without these bounds, each page would count and sort millions of rows. This package has the base class
of the pages, the paginator, the filters and the search. It does not depend on a page and changes no row. Pages inherit
from :class:`ReadOnlyAdmin`, choose filters, and search with :func:`search_records`. Actions redirect with
:func:`redirect_back` and read ids with :func:`parse_id`.
"""

from .filters import (
    AgeFilter,
    BatchFilter,
    BatchStateFilter,
    RecordStateFilter,
    RecordTypeFilter,
    RecordWorkspaceFilter,
    TypeFilter,
    WorkspaceFilter,
)
from .read_only import ReadOnlyAdmin, posted_reason, redirect_back
from .search import parse_id, search_records

__all__ = [
    "AgeFilter",
    "BatchFilter",
    "BatchStateFilter",
    "ReadOnlyAdmin",
    "RecordStateFilter",
    "RecordTypeFilter",
    "RecordWorkspaceFilter",
    "TypeFilter",
    "WorkspaceFilter",
    "parse_id",
    "posted_reason",
    "redirect_back",
    "search_records",
]
