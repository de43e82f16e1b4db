"""What has happened: attempts (HTTP calls), manual actions and imports.

The package decides nothing. Its interface is one model for each log, and the columns of an action.
"""

from .action import ActionKind, Decision, OutboxAction, describe_records, process_user
from .attempt import OutboxAttempt
from .imported import OutboxImport, import_key

__all__ = [
    "ActionKind",
    "Decision",
    "OutboxAction",
    "OutboxAttempt",
    "OutboxImport",
    "describe_records",
    "import_key",
    "process_user",
]
