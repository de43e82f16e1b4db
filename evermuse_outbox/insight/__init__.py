"""Insight explains why a row is in its state, and counts the rows in each state.

This package only reads. It changes no row and sends nothing. The ``explain_…`` functions return sentences for one row,
:func:`collect_overview` returns the figures of the overview page, each from a bounded number of rows.
:func:`collect_status` adds exact counts, and the other functions return single figures.
"""

from ..monitoring import missing_workspaces
from .explaining import (
    describe_conditions,
    explain_batch,
    explain_group,
    explain_record,
    explain_rule,
    explain_workspace,
    format_time,
    has_failed_attachments,
    list_keys,
    rule_to_json,
    to_local_time,
)
from .figures import Count, Incident, Precision, WorkspaceFigures, to_json
from .overview import Overview, collect_overview
from .problems import KINDS, Problem, find_problems
from .requests import as_curl, file_name, rebuild_body
from .status import (
    collect_status,
    count_records,
    count_unfinished,
    oldest_unsent_seconds,
    paused_groups,
    workspace_states,
)

__all__ = [
    "KINDS",
    "Count",
    "Incident",
    "Overview",
    "Precision",
    "Problem",
    "WorkspaceFigures",
    "as_curl",
    "collect_overview",
    "collect_status",
    "count_records",
    "count_unfinished",
    "describe_conditions",
    "explain_batch",
    "explain_group",
    "explain_record",
    "explain_rule",
    "explain_workspace",
    "file_name",
    "find_problems",
    "format_time",
    "has_failed_attachments",
    "list_keys",
    "missing_workspaces",
    "oldest_unsent_seconds",
    "paused_groups",
    "rebuild_body",
    "rule_to_json",
    "to_json",
    "to_local_time",
    "workspace_states",
]
