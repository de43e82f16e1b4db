"""The legal changes of state of a model, as data.

A method of a QuerySet that changes a state has an entry of its name in the ``TRANSITIONS`` of its module. It builds its
WHERE clause from that entry, so it changes only rows that are in a source state. Such a change is called *fenced*.
Without it, a process that was delayed could overwrite what another process has written meanwhile.

The package knows no model. Its interface is :class:`Transition` and :class:`StateQuerySet`. A test compares the tables
and diagrams in ``docs/reference/states.md`` with the entries.
"""

from .fenced import ANY, NO_ROW, StateQuerySet, Transition, UnexpectedState

__all__ = ["ANY", "NO_ROW", "StateQuerySet", "Transition", "UnexpectedState"]
