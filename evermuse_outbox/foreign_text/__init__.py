"""The gate for foreign text: text from answers, exceptions, headers and hosts that this package did not write.

Such text can contain an API key, a control character that forges a line of a log, or a character that a database
refuses. It passes :func:`clean_text` before it reaches a table, a log, a terminal or an exception. The package must
not import Django or any other package of ours, so that every package can use it.

The interface has three parts:

* texts and secrets: :func:`clean_text`, :func:`is_clean`, :func:`hide_secret`.
* values and exceptions of any class: :func:`safe_repr`, :func:`show_value`, :func:`type_name`,
  :func:`describe_error`.
* logs, which contain no payload: :func:`get_logger`, :func:`log_ids`, :func:`gate_logs_of`, :func:`summarise_error`,
  :func:`headline`.
"""

from .exceptions import describe_error, error_code, summarise_error
from .hidden import HiddenBytes, HiddenText
from .logs import gate_logs_of, get_logger, log_ids
from .secrets import hide_secret
from .text import clean_text, headline, is_clean
from .values import MAX_REPR, hide_values, safe_repr, show_value, type_name

__all__ = [
    "MAX_REPR",
    "HiddenBytes",
    "HiddenText",
    "clean_text",
    "describe_error",
    "error_code",
    "gate_logs_of",
    "get_logger",
    "headline",
    "hide_secret",
    "hide_values",
    "is_clean",
    "log_ids",
    "safe_repr",
    "show_value",
    "summarise_error",
    "type_name",
]
