"""What all lists of the outbox share: they are read-only, and each query has an upper bound of rows.

Without these bounds, each page would count and sort millions of rows. This package has the base class
of the pages, the paginator, the filters and the search. It does not depend on a page and changes no row. Pages inherit
from :class:`ReadOnlyAdmin`, choose filters, and search with :func:`search_records`. Actions redirect with
:func:`redirect_back`.
"""

from .bounds import CLOSED_ORDER
from .filters import (
    AgeFilter,
    BatchAttachmentFilter,
    BatchFilter,
    BatchStateFilter,
    BatchTimeFilter,
    JobFilter,
    RecordStateFilter,
    RecordTypeFilter,
    RecordWorkspaceFilter,
    TypeFilter,
    WorkspaceFilter,
)
from .inputs import (
    AgainFilter,
    AttachmentFilter,
    ErrorCodeFilter,
    ErrorTextFilter,
    ProductFilter,
    SignatureFilter,
    TimeFilter,
)
from .labels import LabelFilter, RunFilter
from .read_only import ReadOnlyAdmin, choose_database, posted_reason, redirect_back
from .rules import RuleFilter
from .search import search_records, search_result

__all__ = [
    "CLOSED_ORDER",
    "AgainFilter",
    "AgeFilter",
    "AttachmentFilter",
    "BatchAttachmentFilter",
    "BatchFilter",
    "BatchStateFilter",
    "BatchTimeFilter",
    "ErrorCodeFilter",
    "ErrorTextFilter",
    "JobFilter",
    "LabelFilter",
    "ProductFilter",
    "ReadOnlyAdmin",
    "RecordStateFilter",
    "RecordTypeFilter",
    "RecordWorkspaceFilter",
    "RuleFilter",
    "RunFilter",
    "SignatureFilter",
    "TimeFilter",
    "TypeFilter",
    "WorkspaceFilter",
    "choose_database",
    "posted_reason",
    "redirect_back",
    "search_records",
    "search_result",
]
