"""Monitoring stores what people look at: heartbeats of processes, and incidents with their beginning and end.

This package must not change a record, a batch or a state. Delivery works without it. Its public interface is
:func:`beat`, :func:`observe` and :func:`forget`, and the thresholds that pages explain.
"""

from .backlog import OldestOfGroup, oldest_of_groups
from .drift import NAMES as CLOCK_NAMES
from .drift import describe_drift, is_drifting, measure_drift
from .heartbeats import MISSING_AFTER, WorkerSilence, beat, worker_silence
from .incidents import find_conditions, forget, observe, observe_sometimes
from .missing import missing_workspaces
from .versions import describe_versions, schema_of, unknown_features, versions_at_work

__all__ = [
    "CLOCK_NAMES",
    "MISSING_AFTER",
    "OldestOfGroup",
    "WorkerSilence",
    "beat",
    "describe_drift",
    "describe_versions",
    "find_conditions",
    "forget",
    "is_drifting",
    "measure_drift",
    "missing_workspaces",
    "observe",
    "observe_sometimes",
    "oldest_of_groups",
    "schema_of",
    "unknown_features",
    "versions_at_work",
    "worker_silence",
]
