"""What a label and the name of a run may contain. No database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..conf import LABEL_NAMES, is_label_name
from ..evermuse import FieldError, InvalidRecord
from ..foreign_text import is_clean, show_value
from ..models import MAX_RUN_NAME

MAX_LABELS = 16
"""Maximum number of labels of a record, those of its run included."""

MAX_VALUE = 256
"""Maximum characters of the value of a label."""


def check_labels(labels: Any) -> dict[str, str]:
    """Return the labels in the order of their names.

    Raises:
        InvalidRecord: A name or a value is not allowed. The path of the error is ``labels.NAME``.
    """
    if not isinstance(labels, Mapping):
        raise InvalidRecord(
            [_error("labels", "Labels are a mapping of names to values.", labels, "a mapping")]
        )
    errors = [error for name, value in labels.items() if (error := _check_label(name, value))]
    if len(labels) > MAX_LABELS:
        errors = [_error("labels", "These are too many labels.", len(labels), f"at most {MAX_LABELS} labels")]
    if errors:
        raise InvalidRecord(errors)
    return dict(sorted(labels.items()))


def check_run_name(name: Any) -> str:
    """Return the name of a run.

    Raises:
        InvalidRecord: The name is not allowed. The path of the error is ``run``.
    """
    if not _is_text(name, MAX_RUN_NAME):
        allowed = f"a text of 1 to {MAX_RUN_NAME} printable characters"
        raise InvalidRecord([_error("run", "This is no name of a run.", name, allowed)])
    return str(name)


def _check_label(name: Any, value: Any) -> FieldError | None:
    if not is_label_name(name):
        return _error("labels", "This is no name of a label.", name, LABEL_NAMES)
    if not _is_text(value, MAX_VALUE):
        allowed = f"a text of 1 to {MAX_VALUE} printable characters"
        return _error(f"labels.{name}", "This is no value of a label.", value, allowed)
    return None


def _is_text(value: Any, limit: int) -> bool:
    """Return whether the value is a line of text that every page and log can show as it is."""
    return isinstance(value, str) and 0 < len(value) <= limit and value.strip() == value and is_clean(value)


def _error(path: str, message: str, got: Any, allowed: str) -> FieldError:
    return FieldError(path, message, show_value(got), allowed)
