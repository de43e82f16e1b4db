"""Explain in a few sentences why a row is in its state, and what happens next.

The functions only read, and each costs a few small queries. The package must not change anything. Its public interface
is a function for each kind of row, and ``format_time``.
"""

from .attachments import has_failed_attachments
from .explain import START_WORKER, explain_batch, explain_group, explain_record, explain_workspace
from .keys import explain_blocked_keys, list_keys
from .rules import describe_conditions, describe_rule_title, explain_rule, rule_to_json
from .times import format_time, to_local_time

__all__ = [
    "START_WORKER",
    "describe_conditions",
    "describe_rule_title",
    "explain_batch",
    "explain_blocked_keys",
    "explain_group",
    "explain_record",
    "explain_rule",
    "explain_workspace",
    "format_time",
    "has_failed_attachments",
    "list_keys",
    "rule_to_json",
    "to_local_time",
]
