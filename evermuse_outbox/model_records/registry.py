"""The declarations of this process, by model, and the transaction that each save of such a model gets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import groupby
from typing import Any, TypeVar

from django.core.checks import register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models, router, transaction
from django.db.models.signals import post_save

from .. import outbox
from ..foreign_text import safe_repr
from .checks import check_declaration
from .declaration import Event, ModelRecord

R = TypeVar("R", bound=type[ModelRecord[Any]])

_declarations: dict[type[models.Model], ModelRecord[Any]] = {}

UID = "evermuse_outbox.model_records"
"""Id of the signal handler and of the check, so that each is registered once."""


def record_of(model: type[models.Model]) -> Callable[[R], R]:
    """Register a declaration for a model: from now on, its saves enqueue records. Use it as a decorator.

    A model that inherits from ``model``, also a proxy, uses the same declaration unless it has one of its own.

    Raises:
        ImproperlyConfigured: The model has a declaration already, or it has no table.
        TypeError: ``model`` is no model, or the class is no :class:`ModelRecord`.
    """
    if not (isinstance(model, type) and issubclass(model, models.Model)):
        raise TypeError(f"record_of takes the class of a model, not {safe_repr(model)}.")
    if model._meta.abstract or model._meta.swapped:
        raise ImproperlyConfigured(
            f"{model.__name__} has no table. Declare a record for each model that has one."
        )

    def decorate(declaration: R) -> R:
        if not (isinstance(declaration, type) and issubclass(declaration, ModelRecord)):
            raise TypeError(f"{safe_repr(declaration)} must inherit from ModelRecord[{model.__name__}].")
        if model in _declarations:
            other = type(_declarations[model]).__qualname__
            raise ImproperlyConfigured(f"{model._meta.label} has a declaration already: {other}.")
        instance = declaration()
        instance.model = model
        _declarations[model] = instance
        _give_saves_a_transaction(model)
        post_save.connect(_enqueue_saved, dispatch_uid=UID)
        register(check_declarations)
        return declaration

    return decorate


def forget(model: type[models.Model]) -> None:
    """Remove the declaration of a model. Only tests need it."""
    del _declarations[model]


def declared() -> list[ModelRecord[Any]]:
    """Return all declarations, in the order of their registration."""
    return list(_declarations.values())


def declaration_of(model: type[models.Model]) -> ModelRecord[Any] | None:
    """Return the declaration of a model, or that of its nearest parent; None if there is none."""
    return next((_declarations[each] for each in model.__mro__ if each in _declarations), None)


def record_for(instance: models.Model) -> Mapping[str, Any]:
    """Return the record of a row as its declaration makes it, for a call of ``enqueue``.

    Use it after a change that saves no row of the model, for instance of a many-to-many relation.

    Raises:
        LookupError: The model has no declaration.
    """
    declaration = declaration_of(type(instance))
    if declaration is None:
        raise LookupError(f"{instance._meta.label} has no declaration of a record.")
    return declaration.record(instance)


def wants(model: type[models.Model], event: Event, changed: Iterable[str] | None) -> bool:
    """Return whether a change of these fields enqueues a record of a row of the model, or of a declared child of it."""
    declaration = declaration_of(model)
    if declaration is None:
        return False
    declarations = (declaration, *(_declarations[child] for child in _declared_children(model)))
    return any(each.wants(event, changed) for each in declarations)


def enqueue_rows(
    rows: Iterable[models.Model], using: str, event: Event, changed: Iterable[str] | None = None
) -> None:
    """Enqueue the records of rows, each with its declaration."""
    for declaration, group in groupby(rows, lambda row: declaration_of(type(row))):
        if declaration is not None and declaration.wants(event, changed):
            wanted = filter(declaration.should_record, group)
            outbox.enqueue_many(map(declaration.record, wanted), using=using, workspace=declaration.workspace)


def rows_of_children(model: type[models.Model], pks: Collection[Any], using: str) -> dict[Any, models.Model]:
    """Return the rows of children with a table and a declaration of their own: primary key of the parent → row.

    A row has one declaration: that of a child, if there is a row of it. Its parent may be saved or updated, too.
    """
    parent: Any = model._meta.concrete_model
    key = parent._meta.pk
    rows: dict[Any, models.Model] = {}
    for child in _declared_children(model):
        for row in stored_rows(child, using).filter(**{f"{key.name}__in": pks}):
            rows.setdefault(getattr(row, key.attname), row)
    return rows


def pks_of_children(model: type[models.Model], pks: Collection[Any], using: str) -> set[Any]:
    """Return the primary keys of those rows whose record is that of a child."""
    parent: Any = model._meta.concrete_model
    key = parent._meta.pk
    in_children: set[Any] = set()
    for child in _declared_children(model):
        rows: models.QuerySet[Any] = models.QuerySet(child, using=using)
        in_children.update(rows.filter(**{f"{key.name}__in": pks}).values_list(key.attname, flat=True))
    return in_children


def _declared_children(model: type[models.Model]) -> list[type[models.Model]]:
    """Return the models with a table and a declaration of their own that inherit from a model, the lowest first."""
    parent: Any = model._meta.concrete_model
    children = [
        each for each in _declarations if issubclass(each, parent) and each._meta.concrete_model is not parent
    ]
    tables = [child for child in children if not child._meta.proxy]
    return sorted(tables, key=lambda child: len(child.__mro__), reverse=True)


def check_declarations(app_configs: Any = None, **kwargs: Any) -> list[Any]:  # noqa: ARG001 - Django's signature
    """Check every declaration against its model and the settings."""
    return [message for declaration in declared() for message in check_declaration(declaration)]


def _enqueue_saved(
    sender: type[models.Model],
    instance: models.Model,
    *,
    created: bool,
    raw: bool,
    using: str,
    update_fields: frozenset[str] | None,
    **kwargs: Any,  # noqa: ARG001 - a handler must accept what Django adds
) -> None:
    """Enqueue the record of a row that was saved. Rows of ``loaddata`` are skipped: they are raw."""
    event: Event = "create" if created else "update"
    if raw or not wants(sender, event, update_fields):
        return
    row = stored_rows(sender, using).get(pk=instance.pk)
    if not created:
        row = rows_of_children(sender, [row.pk], using).get(row.pk, row)
    declaration = declaration_of(type(row))
    if declaration is not None and declaration.wants(event, update_fields) and declaration.should_record(row):
        outbox.enqueue(declaration.record(row), using=using, workspace=declaration.workspace)


def stored_rows(model: type[models.Model], using: str) -> models.QuerySet[Any]:
    """Return the queryset that reads rows as the database has them after a change in this transaction.

    An instance in memory may differ from its row: it has values that ``update_fields`` left out, expressions, raw
    values such as a UUID as text, and an old value of a generated field.
    """
    # Not a manager of the model: it may hide rows, such as deleted ones.
    rows: models.QuerySet[Any] = models.QuerySet(model, using=using)
    # Under REPEATABLE READ, these databases show an old version of a row that an UPDATE locked but left as it was.
    return rows.select_for_update() if connections[using].vendor == "mysql" else rows


def _give_saves_a_transaction(model: type[models.Model]) -> None:
    """Run each save of the model in a transaction, which ends after ``post_save``.

    Django sends ``post_save`` after the transaction of a save. Without an open transaction, a crash between the two
    would keep the row and lose its record. The savepoint undoes the row if its record is invalid, so that a caller that
    catches the error can go on.
    """
    save_base = model.save_base
    if getattr(save_base, "_is_recorded", False):
        return

    @wraps(save_base)
    def save_base_in_transaction(
        self: models.Model,
        raw: bool = False,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Any = None,
    ) -> None:
        using = using or router.db_for_write(type(self), instance=self)
        with keys_restored_on_error([self]), transaction.atomic(using=using):
            save_base(self, raw, force_insert, force_update, using, update_fields)

    save_base_in_transaction._is_recorded = True  # type: ignore[attr-defined]
    model.save_base = save_base_in_transaction  # type: ignore[method-assign]


@contextmanager
def keys_restored_on_error(instances: Sequence[models.Model]) -> Iterator[None]:
    """Restore the primary keys and the state of instances if the block raises, because their rows are not stored then.

    With the id of a row that was rolled back, the next save could overwrite another row: SQLite uses an id again.
    """
    before = [(each, _keys_of(each), each._state.adding, each._state.db) for each in instances]
    try:
        yield
    except BaseException:
        for instance, keys, adding, db in before:
            for name in _keys_of(instance).keys() - keys.keys():
                delattr(instance, name)
            for name, value in keys.items():
                setattr(instance, name, value)
            instance._state.adding, instance._state.db = adding, db
        raise


def key_fields(model: type[models.Model]) -> list[models.Field[Any, Any]]:
    """Return the fields of the primary keys of a model and its parents, and its links to their tables."""
    metas: list[Any] = [model._meta, *(parent._meta for parent in model._meta.all_parents)]
    return [field for meta in metas for field in (*meta.pk_fields, *filter(None, meta.parents.values()))]


def _keys_of(instance: models.Model) -> dict[str, Any]:
    names = {field.attname for field in key_fields(type(instance))}
    return {name: instance.__dict__[name] for name in names if name in instance.__dict__}
