"""Labels of records and runs, for hosts: their rules, and the sets that new records name.

A host that uses neither pays nothing: this package runs only with ``labels=`` or ``run=``. It must not read or change
the state of a record. Its public interface is :class:`Run`, :func:`start_run`, :func:`find_run`, :func:`resolve_run`,
:class:`Labeller` and :func:`forget_label_sets`.
"""

from .handle import Run, find_run, resolve_run, start_run
from .label_sets import forget_label_sets
from .labeller import Labeller, Labels
from .rules import check_labels

__all__ = [
    "Labeller",
    "Labels",
    "Run",
    "check_labels",
    "find_run",
    "forget_label_sets",
    "resolve_run",
    "start_run",
]
