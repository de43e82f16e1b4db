"""What has happened: attempts (HTTP calls) and manual actions.

The package decides nothing. Its interface is one model for each log, and the columns of an action.
"""

from .action import ActionKind, Decision, OutboxAction, describe_records, process_user
from .attempt import OutboxAttempt

__all__ = [
    "ActionKind",
    "Decision",
    "OutboxAction",
    "OutboxAttempt",
    "describe_records",
    "process_user",
]
