"""A queryset whose bulk operations enqueue records, too. Django sends no signal for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from django.db import NotSupportedError, connections, models, transaction

from .registry import enqueue_rows, key_fields, keys_restored_on_error, rows_of_children, stored_rows, wants

M = TypeVar("M", bound=models.Model)

CHUNK = 500
"""Rows that one statement names. Old versions of SQLite allow 999 parameters."""


class RecordedQuerySet(models.QuerySet[M]):
    """A queryset that enqueues the records of the rows that its bulk operations write, in the same transaction.

    Use it as the manager of a model with a declaration: ``objects = RecordedQuerySet.as_manager()``, or as the base
    class of a queryset. The async variants and ``bulk_update`` call the methods below. Django's related managers use
    the model's *base* manager for ``add``, ``remove`` and ``clear``, so these enqueue nothing.
    """

    def bulk_create(
        self,
        objs: Iterable[M],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[M]:
        """Insert rows, and enqueue their records.

        Raises:
            NotSupportedError: The database does not say which rows it wrote: with ``ignore_conflicts`` or
                ``update_conflicts``, or if it returns no ids.
        """
        insert = partial(
            super().bulk_create,
            batch_size=batch_size,
            ignore_conflicts=ignore_conflicts,
            update_conflicts=update_conflicts,
            update_fields=update_fields,
            unique_fields=unique_fields,
        )
        is_recorded = wants(self.model, "create", None)
        if not is_recorded and not (update_conflicts and wants(self.model, "update", None)):
            return insert(objs)
        if ignore_conflicts or update_conflicts:
            option, instead = (
                ("update_conflicts", "update_or_create")
                if update_conflicts
                else ("ignore_conflicts", "get_or_create")
            )
            raise NotSupportedError(
                f"bulk_create({option}=True) does not say which rows were written, so their records are not known. "
                f"Use {instead}, or a manager without RecordedQuerySet."
            )
        rows = list(objs)
        self._for_write = True
        with keys_restored_on_error(rows), transaction.atomic(using=self.db):
            created = insert(rows)
            if any(row.pk is None for row in created):
                raise NotSupportedError(
                    f"{connections[self.db].display_name} returns no ids of inserted rows. Save them one by one, or "
                    "give each a primary key before."
                )
            enqueue_rows(
                chain.from_iterable(self._read_again([row.pk for row in created])), self.db, "create"
            )
        return created

    def update(self, **kwargs: Any) -> int:
        """Update the rows with one statement, and enqueue their records as they are afterwards.

        The rows are locked first. So they are the same before and after, also if they do not match the filter any more.

        Raises:
            NotSupportedError: A primary key is updated, so the rows cannot be read again.
        """
        if self.query.is_sliced or not wants(self.model, "update", None):
            return super().update(**kwargs)
        names = {name for field in key_fields(self.model) for name in (field.name, field.attname)}
        if not kwargs.keys().isdisjoint({"pk", *names}):
            raise NotSupportedError(
                "update() of a primary key does not say which rows have which key afterwards, so their records are "
                "not known. Use a manager without RecordedQuerySet."
            )
        if not wants(self.model, "update", kwargs):
            return super().update(**kwargs)
        self._for_write = True
        with transaction.atomic(using=self.db):
            pks, has_locks = self._lock_rows(), connections[self.db].features.has_select_for_update
            # One statement: filters, expressions and subqueries are evaluated once. A row that matches only since the
            # look-up is left out; SQLite has no such rows, and limits the parameters of a statement.
            rows = self.filter(pk__in=pks) if has_locks else self
            count = super(RecordedQuerySet, rows).update(**kwargs)
            enqueue_rows(self._with_children(self._read_again(pks)), self.db, "update", kwargs)
        return count

    update.alters_data = True  # type: ignore[attr-defined]
    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def _lock_rows(self) -> list[Any]:
        """Return the primary keys of these rows in ascending order, and lock the rows."""
        pks = sorted(set(self.order_by().values_list("pk", flat=True)))
        if not connections[self.db].features.has_select_for_update:
            return pks
        locked: list[Any] = []
        for chunk in _chunks(pks):
            rows: models.QuerySet[M] = models.QuerySet(self.model, using=self.db).filter(pk__in=chunk)
            locked += rows.order_by("pk").select_for_update().values_list("pk", flat=True)
        return locked  # without those that another transaction has deleted meanwhile

    def _read_again(self, pks: Sequence[Any]) -> Iterator[list[M]]:
        """Yield the rows as the database has them now, in chunks."""
        for chunk in _chunks(pks):
            rows = list(stored_rows(self.model, self.db).filter(pk__in=chunk).order_by("pk"))
            if len(rows) != len(chunk):
                raise NotSupportedError(
                    f"{len(chunk) - len(rows)} of {len(chunk)} rows were not found by their primary keys after they "
                    "were written, so their records are not known."
                )
            yield rows

    def _with_children(self, chunks: Iterable[list[M]]) -> Iterator[models.Model]:
        for rows in chunks:
            children = rows_of_children(self.model, [row.pk for row in rows], self.db)
            yield from (children.get(row.pk, row) for row in rows)


def _chunks(pks: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (pks[start : start + CHUNK] for start in range(0, len(pks), CHUNK))
