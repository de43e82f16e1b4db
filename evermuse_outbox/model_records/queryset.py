"""A queryset whose bulk operations enqueue records, too. Django sends no signal for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from django.db import NotSupportedError, connections, models, transaction

from .declaration import ModelRecord
from .registry import declaration_of, enqueue_rows

M = TypeVar("M", bound=models.Model)

CHUNK = 500
"""Rows that one statement names. Old versions of SQLite allow 999 parameters."""


class RecordedQuerySet(models.QuerySet[M]):
    """A queryset that enqueues the records of the rows that its bulk operations write, in the same transaction.

    Use it as the manager of a model with a declaration: ``objects = RecordedQuerySet.as_manager()``, or as the base
    class of a queryset. The async variants and ``bulk_update`` call the methods below. Django's related managers use
    the model's *base* manager for ``add``, ``remove`` and ``clear``, so these enqueue nothing.
    """

    def bulk_create(self, objs: Iterable[M], *args: Any, **kwargs: Any) -> list[M]:
        """Insert rows, and enqueue their records.

        Raises:
            NotSupportedError: The database does not say which rows it inserted: with ``ignore_conflicts``, or on a
                database that returns no ids.
        """
        declaration = self._declaration("create")
        if declaration is None:
            return super().bulk_create(objs, *args, **kwargs)
        if kwargs.get("ignore_conflicts"):
            raise NotSupportedError(
                "bulk_create(ignore_conflicts=True) does not say which rows were inserted, so their records are not "
                "known. Use get_or_create, or a manager without RecordedQuerySet."
            )
        rows = list(objs)
        self._for_write = True
        with transaction.atomic(using=self.db):
            created = super().bulk_create(rows, *args, **kwargs)
            if any(row.pk is None for row in created):
                raise NotSupportedError(
                    f"{connections[self.db].display_name} returns no ids of inserted rows. Save them one by one, or "
                    "give each a primary key before."
                )
            enqueue_rows(declaration, self._read_again([row.pk for row in created]), self.db)
        return created

    def update(self, **kwargs: Any) -> int:
        """Update the rows, and enqueue their records as they are afterwards.

        The rows are locked first. So they are the same before and after, also if they do not match the filter any more.
        """
        declaration = self._declaration("update")
        if declaration is None or self.query.is_sliced or not declaration.concerns(kwargs):
            return super().update(**kwargs)
        self._for_write = True
        with transaction.atomic(using=self.db):
            pks = self._lock_rows()
            count = sum(
                super(RecordedQuerySet, self.filter(pk__in=chunk)).update(**kwargs) for chunk in _chunks(pks)
            )
            enqueue_rows(declaration, self._read_again(pks), self.db)
        return count

    update.alters_data = True  # type: ignore[attr-defined]
    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def _declaration(self, event: str) -> ModelRecord[Any] | None:
        declaration = declaration_of(self.model)
        return declaration if declaration is not None and event in declaration.on else None

    def _lock_rows(self) -> list[Any]:
        """Return the primary keys of these rows in ascending order, and lock the rows."""
        pks = sorted(self.order_by().values_list("pk", flat=True))
        if connections[self.db].features.has_select_for_update:
            for chunk in _chunks(pks):
                rows = self.model._base_manager.using(self.db).filter(pk__in=chunk).order_by("pk")
                list(rows.select_for_update().values_list("pk"))
        return pks

    def _read_again(self, pks: Sequence[Any]) -> Iterator[M]:
        """Yield the rows as the database has them now, in the order of ``pks``."""
        for chunk in _chunks(pks):
            rows = self.model._base_manager.using(self.db).in_bulk(chunk)
            yield from (rows[pk] for pk in chunk if pk in rows)


def _chunks(pks: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (pks[start : start + CHUNK] for start in range(0, len(pks), CHUNK))
