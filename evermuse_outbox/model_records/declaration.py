"""The base class of a declaration: which rows of a model become records, and what such a record contains."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models
from django.db.models.constants import LOOKUP_SEP

from ..conf import DEFAULT_WORKSPACE
from ..evermuse.records import SCHEMA_VERSION

M = TypeVar("M", bound=models.Model)

Event = Literal["create", "update"]

EVENTS: tuple[Event, ...] = ("create", "update")

OVERRIDABLE = (
    "should_record",
    "record",
    "get_event_at",
    "get_vendor_ids",
    "get_product_id",
    "get_project_id",
    "get_thread_id",
    "get_participants",
    "get_attachments",
    "get_tags",
    "get_data",
)
"""Methods that may read any field of the row. If a declaration overrides none of them, its fields are known."""


class ModelRecord(Generic[M]):
    """How a row of a model becomes a record. Subclass it, and register the subclass with :func:`record_of`.

    An attribute is enough if the value is the same for all rows, or stands in a field. Otherwise override the method
    ``get_…`` of the same name. A name of a field may follow relations: ``"customer__email"``.

    Attributes:
        type: the ``_type``.
        event_at: name of the field with the time of the event. It is a part of the identity of the record, so it must
            never change: with another time, the next version would be a second record.
        vendor_ids: name in ``_vendor_ids`` → name of the field. It is a part of the identity, too. By default it has
            the primary key: ``{"ticket_id": "pk"}`` for the model ``Ticket``.
        fields: the fields in ``data``: names, or a mapping from the name in ``data`` to the name of the field.
        product_id: the ``_product_id``.
        project_id: the ``_project_id``.
        nature: the ``_nature``; None to send none.
        schema_version: the ``_schema_version``.
        on: which saves enqueue a record: ``"create"``, ``"update"`` or both. With ``()``, only a backfill does.
        watch: fields without whose change ``save(update_fields=…)`` and ``update()`` enqueue nothing. By default they
            are the fields that the declaration names; if a method is overridden, every field.
        workspace: name of the workspace in the settings.
        model: the model, set by :func:`record_of`.
    """

    type: ClassVar[str] = ""
    event_at: ClassVar[str] = ""
    vendor_ids: ClassVar[Mapping[str, str]] = {}
    fields: ClassVar[Sequence[str] | Mapping[str, str]] = ()
    product_id: ClassVar[str] = ""
    project_id: ClassVar[str] = ""
    nature: ClassVar[Literal["evidence", "guidance", "context"] | None] = "evidence"
    schema_version: ClassVar[str] = SCHEMA_VERSION
    on: ClassVar[Collection[Event]] = EVENTS
    watch: ClassVar[Collection[str] | None] = None
    workspace: ClassVar[str] = DEFAULT_WORKSPACE
    model: builtins.type[M]  # the attribute `type` hides the built-in one

    # --- which rows -------------------------------------------------------------------------------

    def should_record(self, instance: M) -> bool:
        """Return whether the row becomes a record. By default, each does."""
        return True

    def queryset(self) -> models.QuerySet[M]:
        """Return the rows of a backfill, for instance with ``select_related``. By default, all rows."""
        return self.model._default_manager.all()

    # --- what a record contains -------------------------------------------------------------------

    def record(self, instance: M) -> Mapping[str, Any]:
        """Return the record of a row. Without overriding it, it consists of what the other methods return."""
        optional = {
            "_nature": self.nature,
            "_thread_id": self.get_thread_id(instance),
            "_participants": list(self.get_participants(instance)),
            "_attachments": list(self.get_attachments(instance)),
            "_tags": list(self.get_tags(instance)),
        }
        return {
            "_type": self.type,
            "_schema_version": self.schema_version,
            "_event_at": self.get_event_at(instance),
            "_vendor_ids": self.get_vendor_ids(instance),
            "_product_id": self.get_product_id(instance),
            "_project_id": self.get_project_id(instance),
            **{name: value for name, value in optional.items() if value},
            "data": self.get_data(instance),
        }

    def get_event_at(self, instance: M) -> Any:
        """Return the time of the event: an aware datetime, or text with an offset."""
        return read_path(instance, self.event_at)

    def get_vendor_ids(self, instance: M) -> Mapping[str, str]:
        """Return the ids of the row in the host."""
        return {name: str(read_path(instance, path)) for name, path in self.vendor_id_paths().items()}

    def get_product_id(self, instance: M) -> str:
        """Return the product that the row belongs to. The record goes into a request with others of that product."""
        return self.product_id

    def get_project_id(self, instance: M) -> str:
        """Return the project that the row belongs to."""
        return self.project_id

    def get_thread_id(self, instance: M) -> str | None:
        """Return the thread of the record; None for none."""
        return None

    def get_participants(self, instance: M) -> Iterable[Mapping[str, Any]]:
        """Return the participants of the record."""
        return ()

    def get_attachments(self, instance: M) -> Iterable[Mapping[str, Any]]:
        """Return the attachments of the record."""
        return ()

    def get_tags(self, instance: M) -> Iterable[str]:
        """Return the tags of the record."""
        return ()

    def get_data(self, instance: M) -> Mapping[str, Any]:
        """Return ``data``: the fields that the declaration names."""
        return {name: as_json(read_path(instance, path)) for name, path in self.data_paths().items()}

    # --- what the declaration says ----------------------------------------------------------------

    def vendor_id_paths(self) -> dict[str, str]:
        """Return name in ``_vendor_ids`` → path of the field."""
        return dict(self.vendor_ids) or {f"{self.model._meta.model_name}_id": "pk"}

    def data_paths(self) -> dict[str, str]:
        """Return name in ``data`` → path of the field."""
        fields = self.fields
        return dict(fields) if isinstance(fields, Mapping) else {name: name for name in fields}

    def overrides(self, method: str) -> bool:
        """Return whether the declaration has a method of its own instead of this one."""
        return getattr(type(self), method) is not getattr(ModelRecord, method)

    def watched(self) -> frozenset[str] | None:
        """Return the fields of the model whose change makes a new version; None for every field."""
        if self.watch is not None:
            return frozenset(self.watch)
        if any(map(self.overrides, OVERRIDABLE)):
            return None
        paths = [self.event_at, *self.vendor_id_paths().values(), *self.data_paths().values()]
        return frozenset(path.split(LOOKUP_SEP)[0] for path in paths)

    def wants(self, event: Event, changed: Iterable[str] | None) -> bool:
        """Return whether a save or an update enqueues a record: an insert, or a change of these fields."""
        return event in self.on and (event == "create" or self.concerns(changed))

    def concerns(self, changed: Iterable[str] | None) -> bool:
        """Return whether a change of these fields makes a new version of the record; None means any field."""
        watched = self.watched()
        return watched is None or changed is None or not watched.isdisjoint(map(self._field_name, changed))

    def _field_name(self, name: str) -> str:
        """Return the name of a field that may be given by its column: ``customer`` for ``customer_id``."""
        try:
            return self.model._meta.get_field(name).name
        except FieldDoesNotExist:
            by_attname = {field.attname: field.name for field in self.model._meta.concrete_fields}
            return by_attname.get(name, name)


def read_path(instance: models.Model, path: str) -> Any:
    """Return the value at a path such as ``customer__email``; None if a relation on the way is None.

    Raises:
        ImproperlyConfigured: The declaration names no path.
    """
    if not path:
        raise ImproperlyConfigured(
            f"The record of {instance._meta.label} has no event_at; see manage.py check"
        )
    value: Any = instance
    for name in path.split(LOOKUP_SEP):
        if value is None:
            return None
        value = getattr(value, name)
    return value


def as_json(value: Any) -> Any:
    """Return the value of a field as ``enqueue`` takes it: a related row by its primary key, a file by its name."""
    if isinstance(value, models.Model):
        return value.pk
    if isinstance(value, models.fields.files.FieldFile):
        return value.name
    return value
