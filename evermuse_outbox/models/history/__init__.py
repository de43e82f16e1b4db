"""What has happened: attempts (HTTP calls), manual actions, imports, incidents and heartbeats of workers.

The package decides nothing. Its interface is one model for each log, and the columns of an action.
"""

from .action import ActionKind, Decision, OutboxAction, describe_records, process_user
from .attempt import OutboxAttempt
from .imported import OutboxImport, import_key
from .incident import IncidentKind, OutboxIncident
from .worker import OutboxWorker

__all__ = [
    "ActionKind",
    "Decision",
    "IncidentKind",
    "OutboxAction",
    "OutboxAttempt",
    "OutboxImport",
    "OutboxIncident",
    "OutboxWorker",
    "describe_records",
    "import_key",
    "process_user",
]
