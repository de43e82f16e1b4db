"""Find every error in the settings dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..foreign_text import is_clean, safe_repr
from .options import OPTIONS, SETTING, WORKSPACE_OPTIONS, Option, raw_settings
from .readers import InvalidValue, suggest

MAX_NAME = 64
"""Characters of a workspace's name: the length of its database column."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error in a setting: its path, what is wrong, and how to correct it."""

    path: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message} {self.hint}"


def find_problems(raw: Any = None) -> Iterator[Problem]:
    """Yield every error in ``raw``, or nothing if it is valid.

    Args:
        raw: The settings dict, or any other value that a project has set. By default, that of the project.
    """
    raw = raw_settings() if raw is None else raw
    if not isinstance(raw, Mapping):
        yield Problem(SETTING, "the value must be a dict.", 'Write EVERMUSE_OUTBOX = {"API_KEY": …}.')
        return
    yield from _in_options(raw, OPTIONS, SETTING, others=("WORKSPACES",))
    workspaces = raw.get("WORKSPACES", {})
    if not isinstance(workspaces, Mapping):
        yield Problem(
            f"{SETTING}['WORKSPACES']",
            "the value must be a dict from name to settings.",
            'Use for instance {"emea": {"API_KEY": …}}.',
        )
        return
    for name, keys in workspaces.items():
        yield from _in_workspace(name, keys)


def _in_workspace(name: Any, keys: Any) -> Iterator[Problem]:
    path = f"{SETTING}['WORKSPACES'][{safe_repr(name)}]"
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not _is_name(name):
        message = (
            f"the name must be a string of 1 to {MAX_NAME} characters, without control characters, "
            "without spaces at its ends and without a slash."
        )
        yield Problem(path, message, "Rename the workspace.")
    if not isinstance(keys, Mapping):
        yield Problem(path, "the value must be a dict.", 'Write {"API_KEY": …}.')
        return
    yield from _in_options(keys, WORKSPACE_OPTIONS, path)


def _is_name(name: str) -> bool:
    """Return whether a name is the same in a log, in a URL of the admin and as an argument of a command."""
    return is_clean(name) and name == name.strip() and not name.startswith("-") and "/" not in name


def _in_options(
    raw: Mapping[str, Any], options: Mapping[str, Option], path: str, others: tuple[str, ...] = ()
) -> Iterator[Problem]:
    """Yield the errors in the values of known keys, and each key that is neither in ``options`` nor in ``others``."""
    for name, value in raw.items():
        if name in options:
            yield from _in_value(options[name], value, f"{path}[{safe_repr(name)}]")
        elif name not in others:
            yield Problem(
                f"{path}[{safe_repr(name)}]", "there is no such setting.", suggest(name, (*options, *others))
            )


def _in_value(option: Option, value: Any, path: str) -> Iterator[Problem]:
    try:
        option.read(value)
    except InvalidValue as error:
        yield Problem(path, error.message, error.hint)
