"""Labels of records, and runs: groups of records that belong together, such as one import.

A record names its *label set*: the labels of the record, and its run if it belongs to one. The package must not read or
change a record. Its interface is one model for each table, and the key of a run.
"""

from .label_set import LabelSetQuerySet, OutboxLabel, OutboxLabelSet
from .run import MAX_RUN_NAME, OutboxRun, RunQuerySet, run_key

__all__ = [
    "MAX_RUN_NAME",
    "LabelSetQuerySet",
    "OutboxLabel",
    "OutboxLabelSet",
    "OutboxRun",
    "RunQuerySet",
    "run_key",
]
