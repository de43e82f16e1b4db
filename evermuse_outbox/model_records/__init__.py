"""Declare how the rows of a model become records: one small class for each model.

A declaration names the fields and the type. From then on, each ``save()`` of that model also enqueues its record, in
the same transaction. :class:`RecordedQuerySet` does the same for ``bulk_create``, ``update`` and ``bulk_update``::

    # support/outbox_records.py
    @record_of(Ticket)
    class TicketRecord(ModelRecord[Ticket]):
        type = "conversation"
        event_at = "opened_at"
        fields = ("subject", "status")
        product_id, project_id = "prod-desk", "proj-support"

The module ``outbox_records`` of each installed app is imported at start-up. This package must not write a record except
through :mod:`evermuse_outbox.outbox`. Its public interface is :class:`ModelRecord`, :func:`record_of`,
:func:`record_for`, :class:`RecordedQuerySet` and :func:`declaration_of`.
"""

from .declaration import ModelRecord
from .queryset import RecordedQuerySet
from .registry import declaration_of, declared, pks_of_children, record_for, record_of

__all__ = [
    "ModelRecord",
    "RecordedQuerySet",
    "declaration_of",
    "declared",
    "pks_of_children",
    "record_for",
    "record_of",
]
