"""System checks of a declaration: what is wrong, and how to correct it, before the first row is saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models
from django.db.models.constants import LOOKUP_SEP

from ..conf import SETTING, get_static_settings
from ..evermuse.records import TYPES
from .declaration import EVENTS, ModelRecord

ERROR, CHANGING = "evermuse_outbox.E040", "evermuse_outbox.W040"


def check_declaration(declaration: ModelRecord[Any]) -> list[CheckMessage]:
    """Return what is wrong with a declaration."""
    if wrong_shapes := [*_check_shapes(declaration), *_check_names(declaration)]:
        return wrong_shapes
    if declaration.overrides("record"):
        return [*_check_events(declaration), *_check_workspace(declaration)]
    return [
        *_check_events(declaration),
        *_check_workspace(declaration),
        *_check_values(declaration),
        *_check_fields(declaration),
        *_check_identity(declaration),
    ]


def _check_shapes(declaration: ModelRecord[Any]) -> Iterator[CheckMessage]:
    """Check that the attributes with several names are no text: a comma or a bracket is missing."""
    if not isinstance(declaration.vendor_ids, Mapping):
        hint = "Use a mapping from the name in _vendor_ids to a field, such as {'ticket_id': 'pk'}."
        yield _error(declaration, f"vendor_ids is {declaration.vendor_ids!r}.", hint)
    for attribute in ("fields", "watch"):
        if isinstance(value := getattr(declaration, attribute), str):
            hint = f"A comma is missing: write ({value!r},)."
            yield _error(declaration, f"{attribute} is the text {value!r}.", hint)


def _check_names(declaration: ModelRecord[Any]) -> Iterator[CheckMessage]:
    """Find misspelt attributes, such as ``field`` for ``fields``."""
    known = [name for name in dir(ModelRecord) if not name.startswith("_")]
    for name in vars(type(declaration)):
        similar = get_close_matches(name, known, n=1, cutoff=0.85)
        if similar and name not in known and not name.startswith("_"):
            hint = f"Did you mean {similar[0]}? If not, give it a name that is less similar."
            yield _error(declaration, f"it has no attribute {name}.", hint)


def _check_events(declaration: ModelRecord[Any]) -> Iterator[CheckMessage]:
    events = {declaration.on} if isinstance(declaration.on, str) else set(declaration.on)
    if "delete" in events:
        yield _error(
            declaration,
            "on has 'delete', but Evermuse has no call that deletes a record.",
            "Remove it. Save the row with a field that says it was deleted, or erase the records with outbox_erase.",
        )
    elif isinstance(declaration.on, str) or events - set(EVENTS):
        yield _error(
            declaration, f"on is {declaration.on!r}.", f"Use a tuple of {' and '.join(map(repr, EVENTS))}."
        )


def _check_workspace(declaration: ModelRecord[Any]) -> Iterator[CheckMessage]:
    try:
        settings = get_static_settings()
    except ImproperlyConfigured:
        return  # E001 says what is wrong
    if settings.workspace_function:
        return  # a check without a database does not call it
    known = settings.workspaces
    if declaration.workspace not in known:
        yield _error(
            declaration,
            f"the workspace {declaration.workspace!r} is not in the settings.",
            f"Add it to {SETTING}['WORKSPACES'], or use one of {', '.join(map(repr, sorted(known)))}.",
        )


def _check_values(declaration: ModelRecord[Any]) -> Iterator[CheckMessage]:
    """Check that each required value has an attribute, or a method of its own."""
    for name in ("event_at", "product_id", "project_id"):
        if not getattr(declaration, name) and not declaration.overrides(f"get_{name}"):
            yield _error(declaration, f"{name} is missing.", f"Set {name}, or override get_{name}(instance).")
    if not declaration.fields and not declaration.overrides("get_data"):
        yield _error(
            declaration, "fields is empty.", "Name the fields in data, or override get_data(instance)."
        )
    for name in ("product_id", "project_id"):
        if LOOKUP_SEP in (value := getattr(declaration, name)) and not declaration.overrides(f"get_{name}"):
            hint = f"Override get_{name}(instance) to read it from a field."
            yield _error(declaration, f"{name} is {value!r}, which is sent as it stands.", hint)
    try:
        workspace = get_static_settings().workspaces.get(declaration.workspace)
    except ImproperlyConfigured:
        return
    if workspace is None:
        return
    contract = workspace.contract
    if declaration.type not in TYPES[contract]:
        yield _error(
            declaration,
            f"type is {declaration.type!r}." if declaration.type else "type is missing.",
            f"Use one of {', '.join(TYPES[contract])}.",
        )


def _check_fields(declaration: ModelRecord[Any]) -> Iterator[CheckMessage]:
    """Check that each path leads from field to field."""
    for attribute, path in _paths(declaration):
        model: type[models.Model] | None = declaration.model
        for name in path.split(LOOKUP_SEP):
            if model is None:
                yield _error(
                    declaration,
                    f"{attribute} has {path!r}, which goes on after a field.",
                    "Correct the path.",
                )
                break
            problem, model = _step(model, name)
            if problem:
                hint = (
                    f"Fields: {', '.join(sorted(field.name for field in model._meta.get_fields()))}."
                    if model
                    else ""
                )
                yield _error(declaration, f"{attribute} has {path!r}, but {problem}", hint)
                break


def _step(model: type[models.Model], name: str) -> tuple[str, type[models.Model] | None]:
    """Return what is wrong with a name, and the model that its value is a row of; None for a plain value."""
    if name == "pk":
        return "", None
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        # A property or an attname, such as customer_id, is read like a field.
        if hasattr(model, name):
            return "", None
        return f"{model._meta.label} has no field {name!r}.", model
    if field.one_to_many or field.many_to_many:
        return f"{name!r} has many rows. Override a method for them.", model
    return "", field.related_model if field.is_relation else None


def _check_identity(declaration: ModelRecord[Any]) -> Iterator[CheckMessage]:
    """Check that the identity consists of plain values, and warn of a part that changes with each save.

    With another identity, each version would be a record of its own.
    """
    paths = [("event_at", declaration.event_at)] if not declaration.overrides("get_event_at") else []
    if not declaration.overrides("get_vendor_ids"):
        paths += [("vendor_ids", path) for path in declaration.vendor_id_paths().values()]
    for attribute, name in paths:
        try:
            field = declaration.model._meta.get_field(name)
        except FieldDoesNotExist:
            continue
        if attribute == "event_at" and not isinstance(field, models.DateTimeField):
            hint = "Name a DateTimeField, or override get_event_at(instance)."
            yield _error(declaration, f"event_at is {name!r}, which is no field with a time.", hint)
        if attribute == "vendor_ids" and field.is_relation:
            hint = f"Use its column {name}_id, or a field of it such as {name}__pk."
            yield _error(declaration, f"vendor_ids has {name!r}, which is a row of another model.", hint)
        if getattr(field, "auto_now", False):
            yield Warning(
                f"{_name(declaration)}: {attribute} is {name!r}, which changes with each save (auto_now). Evermuse "
                "overwrites a record only if its _type, _vendor_ids and _event_at are the same, so each save would add "
                "a record.",
                hint="Use a field that never changes, for instance one with auto_now_add.",
                id=CHANGING,
            )


def _paths(declaration: ModelRecord[Any]) -> Iterator[tuple[str, str]]:
    if declaration.event_at and not declaration.overrides("get_event_at"):
        yield "event_at", declaration.event_at
    if not declaration.overrides("get_vendor_ids"):
        yield from (("vendor_ids", path) for path in declaration.vendor_id_paths().values())
    if not declaration.overrides("get_data"):
        yield from (("fields", path) for path in declaration.data_paths().values())
    yield from (("watch", name) for name in declaration.watch or ())


def _name(declaration: ModelRecord[Any]) -> str:
    return f"{type(declaration).__qualname__}, the record of {declaration.model._meta.label}"


def _error(declaration: ModelRecord[Any], problem: str, hint: str) -> CheckMessage:
    return Error(f"{_name(declaration)}: {problem}", hint=hint, id=ERROR)
