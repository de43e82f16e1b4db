"""The checks of the workspaces: their addresses, their keys, and the function that returns them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004

from ..conf import (
    DEFAULT_WORKSPACE,
    SETTING,
    KeyFile,
    KeyUnavailable,
    Secret,
    Settings,
    Workspace,
    find_import_problem,
    get_settings,
    get_static_settings,
    see_docs,
)
from ..evermuse import limits


def check_workspaces(settings: Settings) -> Iterator[CheckMessage]:
    """Check workspaces, without a query and without a request."""
    yield from _check_paths(settings)
    yield from _check_keys_are_set(settings)
    yield from _check_keys_are_usable(settings)
    yield from _check_keys_differ(settings)
    yield from _check_rate_limits(settings)
    yield from _check_environment_proxies(settings)


def check_function_path(settings: Settings) -> Iterator[CheckMessage]:
    """Check that the function of ``WORKSPACES`` can be imported. It is not called."""
    if settings.workspace_function and (problem := find_import_problem(settings.workspace_function)):
        yield Error(f"{problem.path}: {problem.message}", hint=problem.hint, id="evermuse_outbox.E006")


def check_workspace_function() -> Iterator[CheckMessage]:
    """Call the function of ``WORKSPACES`` and check what it returns. It may query the database."""
    settings = get_settings()
    for problem in settings.workspace_problems.values():
        yield Warning(
            f"{problem.path}: {problem.message}",
            hint=problem.hint,
            id="evermuse_outbox.W014",
        )
    if not settings.workspace_function:
        return
    static = get_static_settings().workspaces
    returned = {name: each for name, each in settings.workspaces.items() if static.get(name) != each}
    if returned:
        yield from check_workspaces(replace(settings, workspaces=returned))


def _check_paths(settings: Settings) -> Iterator[CheckMessage]:
    for workspace in settings.workspaces.values():
        if re.search(r"/v\d+/?$|/api/v\d+(/|$)", workspace.api_url):
            problem = f"The API_URL of the workspace {workspace.name!r} has a version of the API in its path."
            remedy = "Leave it out: the outbox adds /api/v1/ingest, so the answer would be 404."
            yield Warning(problem, hint=remedy, id="evermuse_outbox.W013")


def _check_keys_are_set(settings: Settings) -> Iterator[CheckMessage]:
    for workspace in settings.workspaces.values():
        if not workspace.has_key:
            yield Warning(
                f"The workspace {workspace.name!r} has no API_KEY, so its records stay pending.",
                hint=f"Set {_path_of(workspace)}['API_KEY'] from the environment, or {_path_of(workspace)}"
                "['API_KEY_FILE'] to the path of a file.",
                id="evermuse_outbox.W001",
            )


def _check_keys_are_usable(settings: Settings) -> Iterator[CheckMessage]:
    """Check the keys of the settings and of files. A function is not called: a check must not depend on a server."""
    for workspace in settings.workspaces.values():
        keys = [key for key in (workspace.api_key, *workspace.further_keys) if isinstance(key, Secret)]
        for source in (workspace.key_source, *workspace.further_keys):
            if not isinstance(source, KeyFile):
                continue
            try:
                keys.append(source.read())
            except KeyUnavailable as error:
                yield Warning(
                    f"The workspace {workspace.name!r} cannot send from here. {error}",
                    hint=f"Only processes that send need the file. {see_docs('how-to/api-keys.md')}",
                    id="evermuse_outbox.W012",
                )
        refusals = [workspace.find_refusal(key) for key in keys] if workspace.has_key else []
        if refusal := next(filter(None, refusals), None):
            is_error = refusal.kind == "sandbox_key"
            yield (Error if is_error else Warning)(
                f"The workspace {workspace.name!r} does not send: {refusal.message}",
                hint=f"{refusal.hint} The settings are in {_path_of(workspace)}.",
                id="evermuse_outbox.E005" if is_error else "evermuse_outbox.W011",
            )


def _check_keys_differ(settings: Settings) -> Iterator[CheckMessage]:
    uses = Counter(
        key
        for workspace in settings.workspaces.values()
        for key in {workspace.api_key, *workspace.further_keys}
        if isinstance(key, Secret) and key
    )
    if any(count > 1 for count in uses.values()):
        yield Warning(
            "Two workspaces have the same API_KEY. Evermuse stores their records in one place, but the outbox "
            "keeps versions of a record in order only within a workspace.",
            hint="Use one workspace for each key.",
            id="evermuse_outbox.W002",
        )


def _check_rate_limits(settings: Settings) -> Iterator[CheckMessage]:
    for workspace in settings.workspaces.values():
        if workspace.rate_limit > limits.RATE_LIMIT:
            yield Warning(
                f"The workspace {workspace.name!r} has RATE_LIMIT {workspace.rate_limit:g}; Evermuse "
                f"allows {limits.RATE_LIMIT} requests a second for each key.",
                hint="Remove RATE_LIMIT, unless Evermuse has granted more.",
                id="evermuse_outbox.W004",
            )


def _path_of(workspace: Workspace) -> str:
    if workspace.name == DEFAULT_WORKSPACE:
        return SETTING
    call = "()" if get_static_settings().workspace_function else ""
    return f"{SETTING}['WORKSPACES']{call}[{workspace.name!r}]"


def _check_environment_proxies(settings: Settings) -> Iterator[CheckMessage]:
    """Check proxies of the environment. One in the setting ``PROXY`` that cannot be used is E001."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return
    # Imported here, because it loads the HTTP client and every start of the host imports this module.
    from ..evermuse.api import find_route

    for workspace in settings.workspaces.values():
        route = find_route(workspace.api_url, workspace.proxy)
        if route.problem:
            yield Warning(
                f"The workspace {workspace.name!r} cannot send: the environment variable {route.source} names a proxy "
                f"that cannot be used, because {route.problem}",
                hint=f"{route.hint} Or set {_path_of(workspace)}['PROXY'] to another proxy, or to \"\" for none.",
                id="evermuse_outbox.W010",
            )


def check_missing_workspaces(using: str) -> Iterator[CheckMessage]:
    """Check that the settings have each workspace that has records which wait."""
    from django.db import DatabaseError

    from ..insight import missing_workspaces  # late, because it loads the HTTP client

    try:
        missing = missing_workspaces(using)
    except DatabaseError:
        return  # before the first migration, there are no tables
    for name, rows in missing.items():
        yield Warning(
            f"The database {using!r} has {rows['pending']:,} pending records and {rows['open_batches']:,} open batches "
            f"of the workspace {name!r}, which is not in the settings. Nothing sends them.",
            hint=f"Put it back into WORKSPACES, or discard them: manage.py outbox_discard --workspace {name}",
            id="evermuse_outbox.W008",
        )
