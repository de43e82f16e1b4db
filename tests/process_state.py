"""Restore what the app keeps in the process, so that no test depends on the tests before it.

A test can run first, last or alone on a worker of pytest-xdist. ``tests/test_process_state.py`` finds a new variable
that belongs to ``RESTORED`` or ``KEPT``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.utils import timezone, translation

RESTORED = (
    "database_clock._samples",
    "delivery.context.deadlines._slow",
    "delivery.context.epochs._memory._epochs",
    "delivery.context.retries._reported",
    "delivery.context.throttles._prepared_at",
    "foreign_text.secrets._secrets",
    "foreign_text.values._hidden",
    "messages.deadline._silent",
    "models.payloads.keyring._current",
    "models.payloads.keyring._known",
    "models.payloads.keyring._uncommitted",
    "models.settled.rejection_log._known",
    "monitoring.drift._reported_at",
    "monitoring.heartbeats._beats",
    "monitoring.incidents._observed_at",
    "pressure.current._known",
    "runs.forget._examined_to",
    "runs.forget._searched_at",
    "runs.label_sets._known",
    "runs.watch._next_look",
    "tasks._last_run",
    "tasks._lingering",
    "upkeep.future_times._searched_at",
    "upkeep.maintenance._dropping",
    "upkeep.maintenance._progress",
    "upkeep.rejections._cursors",
    "wakeup._silent_until",
)
"""Variables whose content is restored after each test."""

KEPT = {
    "delivery.connections.sharing._stacks": "the open connections of a process, which the last thread closes",
    "delivery.connections.sharing._thread": "restored by the context manager that sets it",
    "delivery.context.context._local": "the open connections of a thread; its keys contain everything that matters",
    "evermuse.api.budget._places": "each answer gives its place back",
    "evermuse.records.json_values._as_django_does": "a constant",
    "conf.readers.retention._read_days": "a function",
    "evermuse.records.translation._decode": "a function",
    "evermuse.records.schema._validators": "a cache; its keys never change their meaning",
    "evermuse.formats._compile": "a function",
    "model_records.registry._declarations": "filled when models are declared",
    "testing.live._clock": "the clock of the reused sandboxes, which begin each test empty",
    "testing.live._idle": "sandboxes that are reused, and begin each test empty",
    "testing.live._instances": "weak references to the reused sandboxes",
    "jobs.kinds._kinds": "filled when modules are imported",
    "models.settled.rejection_log._lock": "a lock",
    "tasks._lingering_lock": "a lock",
    "wakeup._lock": "a lock",
}
"""Variables that stay, and why a test cannot notice it."""


@contextmanager
def restored_process_state() -> Iterator[None]:
    """Restore the variables of the app, the environment, and Django's active language and time zone."""
    before = {name: _copy(_items(name)) for name in RESTORED}
    environment = dict(os.environ)
    yield
    for name, content in before.items():
        _restore(name, content)
    for name in os.environ.keys() | environment.keys():
        if name != "PYTEST_CURRENT_TEST" and os.environ.get(name) != environment.get(name):
            os.environ.pop(name, None)
            os.environ.update({name: environment[name]} if name in environment else {})
    translation.deactivate()
    timezone.deactivate()


def _items(name: str) -> dict[Any, Any]:
    """Return the items of a dict or the attributes of an object; an empty dict if its module is not imported."""
    value = _variable(name)
    return value if isinstance(value, dict) else getattr(value, "__dict__", {})


def _copy(items: dict[Any, Any]) -> dict[Any, Any]:
    """Return a copy, in which also the dicts are copies."""
    return {key: dict(value) if isinstance(value, dict) else value for key, value in items.items()}


def _restore(name: str, content: dict[Any, Any]) -> None:
    items = _items(name)
    if items == content:
        return
    value = _variable(name)
    if not content and not isinstance(value, dict):
        content = vars(type(value)())  # the test was the first to import the module
    items.clear()
    items.update(content)


def _variable(name: str) -> Any:
    module, _, path = name.partition("._")
    value = sys.modules.get(f"evermuse_outbox.{module}")
    for attribute in f"_{path}".split("."):
        value = getattr(value, attribute, None)
    return value
