"""A string that is not shown in logs and on error pages, and that cannot be pickled."""

from __future__ import annotations

from typing import Any

from ...foreign_text import hide_secret


class Secret:
    """Hide a string from ``repr``, ``str``, tracebacks and every foreign text; :meth:`reveal` returns it.

    With ``is_masked=False``, foreign text is not searched for it: for a string that is secret only in a part.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str, *, is_masked: bool = True) -> None:
        self._value = str(value)  # not a HiddenText, whose forms could not be masked
        if is_masked:
            hide_secret(self._value)

    def reveal(self) -> str:
        """Return the string itself."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(…)" if self._value else "Secret(empty)"

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: Any) -> Secret:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            "A secret cannot be pickled, because a cache or a queue would store it in clear text."
        )
