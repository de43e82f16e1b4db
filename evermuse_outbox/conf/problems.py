"""Find every error in the settings dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..foreign_text import is_clean, safe_repr
from .options import OPTIONS, SETTING, WORKSPACE_OPTIONS, Option, raw_settings
from .readers import InvalidValue, is_dotted_path, show_number, suggest
from .targets import is_plain_http, is_sandbox_key

KEY_OPTIONS = ("API_KEY", "API_KEY_FILE", "API_KEYS")
"""Settings of which a workspace needs one. It inherits none of them."""

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
    if raw.get("ENCRYPTION_KEYS") and raw.get("ENCRYPTION_KEYS_FILE"):
        message = "ENCRYPTION_KEYS is set, too."
        yield Problem(f"{SETTING}['ENCRYPTION_KEYS_FILE']", message, "Remove one of the two settings.")
    workspaces = raw.get("WORKSPACES", {})
    if is_function(workspaces):
        if has_key(raw):
            yield from _in_combination(raw, raw, SETTING)
        return
    if not isinstance(workspaces, Mapping):
        yield Problem(
            f"{SETTING}['WORKSPACES']",
            "the value must be a dict from name to settings, or a function that returns it.",
            'Use for instance {"emea": {"API_KEY": …}} or "shop.customers.read_workspaces".',
        )
        return
    for name, keys in workspaces.items():
        yield from find_workspace_problems(raw, name, keys, f"{SETTING}['WORKSPACES']")
    if has_key(raw) or not workspaces:
        yield from _in_combination(raw, raw, SETTING)


def is_function(workspaces: Any) -> bool:
    """Return whether the value of ``WORKSPACES`` is a function or the dotted path of one."""
    return callable(workspaces) or (isinstance(workspaces, str) and is_dotted_path(workspaces))


def find_workspace_problems(raw: Mapping[str, Any], name: Any, keys: Any, origin: str) -> Iterator[Problem]:
    """Yield every error in the settings of a workspace.

    Args:
        raw: The settings dict of the project, from which the workspace inherits.
        name: The name of the workspace.
        keys: Its settings; a dict if they are valid.
        origin: The path of the dict that contains the workspace.
    """
    path = f"{origin}[{safe_repr(name)}]"
    yield from _in_workspace(name, keys, path)
    if isinstance(keys, Mapping):
        yield from _in_combination(raw, keys, path)


def _in_workspace(name: Any, keys: Any, path: str) -> Iterator[Problem]:
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


def has_key(raw: Mapping[str, Any]) -> bool:
    """Return whether a dict of settings has a key or names its file."""
    return any(raw.get(name) for name in KEY_OPTIONS)


def _in_combination(raw: Mapping[str, Any], keys: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Yield what is wrong between the values of a workspace, if each of them is valid."""
    if keys.get("API_KEY") and keys.get("API_KEY_FILE"):
        yield Problem(f"{path}['API_KEY_FILE']", "API_KEY is set, too.", "Remove one of the two settings.")
    url, listed = keys.get("API_URL", raw.get("API_URL")), keys.get("API_KEYS")
    key, listed = keys.get("API_KEY"), listed if isinstance(listed, list | tuple) else ()
    texts = [text for text in (key, *listed) if isinstance(text, str) and text]
    is_known = isinstance(key, str | None) and not keys.get("API_KEY_FILE") and (texts or not listed)
    if (
        isinstance(url, str)
        and _is_valid(url)
        and is_plain_http(url)
        and is_known
        and not (texts and all(is_sandbox_key(text) for text in texts))
    ):
        where = path if "API_URL" in keys else SETTING
        yield Problem(f"{where}['API_URL']", "plain http would send the API key in clear text.", "Use https.")


def _is_valid(url: str) -> bool:
    return not list(_in_value(WORKSPACE_OPTIONS["API_URL"], url, ""))


def _is_name(name: str) -> bool:
    """Return whether a name is the same in a log, in a URL of the admin and as an argument of a command."""
    return is_clean(name) and name == name.strip() and not name.startswith("-") and "/" not in name


def _in_options(
    raw: Mapping[str, Any], options: Mapping[str, Option], path: str, others: tuple[str, ...] = ()
) -> Iterator[Problem]:
    """Yield the errors in the values of known keys, and each key that is neither in ``options`` nor in ``others``."""
    for name, value in raw.items():
        if name in options:
            yield from _in_value(options[name], value, f"{path}[{name!r}]")
        elif name not in others:
            yield Problem(
                f"{path}[{safe_repr(name)}]", "there is no such setting.", suggest(name, (*options, *others))
            )


def _in_value(option: Option, value: Any, path: str) -> Iterator[Problem]:
    try:
        option.read(value)
    except InvalidValue as error:
        yield Problem(path, error.message, error.hint or _use_default(option.default))


def _use_default(default: Any) -> str:
    if default is None:
        return "Remove the setting."
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    return f"Remove the setting to get its default, {show_number(default) if is_number else repr(default)}."
