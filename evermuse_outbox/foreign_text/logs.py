"""Loggers whose records pass the gate, whatever the caller gives to them.

The gate is a filter of the logger, so every handler of the host gets the cleaned record. The template of the message
stays as it is, because services such as Sentry group records by it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .exceptions import format_traceback, summarise_error
from .text import clean_text

MAX_ARGUMENT = 1_000
"""Characters of one value in a line of a log."""


class _Gate(logging.Filter):
    """Clean each value of a record. Replace an exception by its class, its code and its stack."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not isinstance(record.msg, str):
            record.msg, record.args = "%s", (record.msg,)
        if isinstance(record.args, Mapping):
            record.args = {name: _clean(value) for name, value in record.args.items()}
        elif record.args:
            record.args = tuple(map(_clean, record.args))
        if record.exc_info and record.exc_info[1]:
            # Its message may contain payload, and so may the local variables that error reports show.
            record.exc_text = format_traceback(record.exc_info[1])
            record.exc_info = None
        return True


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module. Use this function in place of ``logging.getLogger``."""
    logger = logging.getLogger(name)
    logger.addFilter(_GATE)
    return logger


def log_ids(**ids: Any) -> dict[str, Any]:
    """Return the ids for ``extra=`` of a call of a logger, so that a structured log can be searched by them.

    Use the names ``database``, ``workspace``, ``batch``, ``group`` and ``outcome``. Never give a text of an answer.
    """
    return {name: _clean(value) for name, value in ids.items() if value is not None}


class _GateForOurCalls(_Gate):
    """The gate for a logger of another package. It changes only records from a call of ours, not those of the host."""

    def filter(self, record: logging.LogRecord) -> bool:
        return super().filter(record) if _is_our_call.get() else True


@contextmanager
def gate_logs_of(*names: str) -> Iterator[None]:
    """Let the records of other packages' loggers pass the gate inside of the block, in this thread."""
    for name in names:
        logging.getLogger(name).addFilter(_GATE_FOR_OUR_CALLS)
    before = _is_our_call.set(True)
    try:
        yield
    finally:
        _is_our_call.reset(before)


def _clean(value: Any) -> Any:
    if type(value) in (int, float, bool):
        return value
    return summarise_error(value) if isinstance(value, BaseException) else clean_text(value, MAX_ARGUMENT)


_GATE, _GATE_FOR_OUR_CALLS = _Gate(), _GateForOurCalls()
_is_our_call = ContextVar("_is_our_call", default=False)
