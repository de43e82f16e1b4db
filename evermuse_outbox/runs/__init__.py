"""Labels of records and runs, for hosts: their rules, and the sets that new records name.

A host that uses neither pays nothing: this package runs only with ``labels=`` or ``run=``. It must not read or change
the state of a record. Its public interface is :class:`Run` with its :class:`RunStatus`, :class:`Labeller`, and
the steps of upkeep: :func:`watch_runs`, :func:`forget_labels` and :func:`keep_purged_counts`.
"""

from .counts import RunStatus, read_status, status_of
from .forget import forget_labels, has_label_index, keep_purged_counts
from .handle import Run, RunNotFound, as_handle, find_run, resolve_run, start_run
from .joining import RunPlan, default_run_name
from .label_sets import RunClosed, forget_label_sets
from .labeller import Labeller, Labels
from .rules import check_labels, check_run_name
from .watch import watch_runs

__all__ = [
    "Labeller",
    "Labels",
    "Run",
    "RunClosed",
    "RunNotFound",
    "RunPlan",
    "RunStatus",
    "as_handle",
    "check_labels",
    "check_run_name",
    "default_run_name",
    "find_run",
    "forget_label_sets",
    "forget_labels",
    "has_label_index",
    "keep_purged_counts",
    "read_status",
    "resolve_run",
    "start_run",
    "status_of",
    "watch_runs",
]
