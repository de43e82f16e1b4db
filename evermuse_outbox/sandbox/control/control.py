"""The control over HTTP: routes, JSON, and the files of the page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, Literal, Protocol, get_args
from urllib.parse import parse_qsl

from ..faults import FaultError, FaultRequest, ScriptedFault, fault_from_json, fault_to_json
from ..responses import RequestRefused, Response
from .guard import check_origin, check_token
from .history import Entry, History
from .records import split_records, summarise_records
from .rows import choices, has_text, matches, matching_records, printable, state_of, summarise_request

PREFIX = "/sandbox/"

PAGE = Path(__file__).parent / "page"

FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/sandbox/page.css": ("page.css", "text/css; charset=utf-8"),
    "/sandbox/page.js": ("page.js", "text/javascript; charset=utf-8"),
}

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of each response. Records are foreign text, so no script may run but that of the page."""

Scope = Literal["workspace", "key"]
SCOPES = get_args(Scope)
"""What may have a listing, or idempotency keys, of its own."""

MAX_ROWS = 200
"""Rows of a list."""

MAX_SCANNED_BYTES = 16_000_000
"""Bytes of bodies that are parsed for a list of records. It takes a quarter of a second."""


class Inspected(Protocol):
    """The sandbox that is shown and controlled."""

    def inject(self, request: FaultRequest) -> ScriptedFault:
        """Inject a fault."""

    def waiting_faults(self) -> list[ScriptedFault]:
        """Return the injected faults."""

    def remove_fault(self, fault_id: int) -> bool:
        """Remove an injected fault."""

    def clear_faults(self) -> None:
        """Remove the injected faults."""

    def set_fail_percent(self, percent: float) -> None:
        """Set the share of random faults."""

    def set_scopes(self, *, listing: Scope | None = None, idempotency: Scope | None = None) -> None:
        """Change what the API keys of a workspace share."""

    def refuse_keys(self, positions: Collection[int]) -> None:
        """Revoke the API keys at these positions, and accept the others."""

    def overview(self) -> dict[str, Any]:
        """Return figures about the sandbox as JSON."""

    def batch_states(self, batch_ids: set[str]) -> dict[str, str]:
        """Return the status of batches by id."""

    def reset(self) -> None:
        """Return to the initial state."""

    @property
    def now(self) -> float:
        """The time in seconds."""


@dataclass(frozen=True)
class ControlRequest:
    """A request to the control."""

    method: str
    target: str
    headers: Message[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path, without the query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The fields of the query."""
        return dict(parse_qsl(self.target.partition("?")[2]))

    def json(self) -> Any:
        """Return the body.

        Raises:
            RequestRefused: 400, if it is no JSON.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise RequestRefused(400, f"The body is no JSON: {error}"[:300]) from error


class Control:
    """Answer the requests to ``/`` and below ``/sandbox/``.

    Args:
        sandbox: The sandbox that is shown and controlled.
        history: Its last requests.
        token: Token that each request must have, or no text if none is required.
    """

    def __init__(self, sandbox: Inspected, history: History, token: str = "") -> None:
        self.sandbox = sandbox
        self.history = history
        self.token = token

    def handles(self, target: str) -> bool:
        """Return whether a request target belongs to the control."""
        path = target.partition("?")[0]
        return path == "/" or path.startswith(PREFIX)

    def respond(self, request: ControlRequest) -> Response:
        """Return the response to a request."""
        try:
            response = self._respond(request)
        except RequestRefused as refusal:
            response = refusal.to_response()
        return Response(
            response.status, response.body, {**response.headers, **HEADERS}, response.closes_connection
        )

    def _respond(self, request: ControlRequest) -> Response:
        if request.path in FILES and request.method in ("GET", "HEAD"):
            name, media_type = FILES[request.path]
            return Response(200, (PAGE / name).read_bytes(), {"Content-Type": media_type})
        if request.path == "/sandbox/health":
            return Response.with_json(200, {"status": "ok"})
        check_origin(request.method, request.headers)
        check_token(self.token, request.headers)
        handler, arguments = self._find_handler(request)
        return handler(request, *arguments)

    def _find_handler(self, request: ControlRequest) -> tuple[Callable[..., Response], tuple[int, ...]]:
        allowed = set()
        for method, pattern, handler in self._routes():
            match = re.fullmatch(pattern, request.path.removeprefix(PREFIX))
            if match and method == request.method:
                return handler, tuple(int(number) for number in match.groups())
            allowed |= {method} if match else set()
        if allowed:
            raise RequestRefused(405, f"This path takes {' or '.join(sorted(allowed))}.")
        raise RequestRefused(404, "There is nothing at this path.")

    def _routes(self) -> list[tuple[str, str, Callable[..., Response]]]:
        return [
            ("GET", "state", self._state),
            ("GET", "faults", self._faults),
            ("POST", "faults", self._add_fault),
            ("DELETE", "faults", self._clear_faults),
            ("DELETE", "faults/([0-9]{1,9})", self._remove_fault),
            ("PUT", "random-faults", self._set_random_faults),
            ("PUT", "keys", self._set_keys),
            ("GET", "requests", self._requests),
            ("DELETE", "requests", self._forget_requests),
            ("GET", "requests/([0-9]{1,9})", self._request),
            ("GET", "requests/([0-9]{1,9})/body", self._body),
            ("GET", "requests/([0-9]{1,9})/records/([0-9]{1,4})", self._record),
            ("GET", "records", self._records),
            ("POST", "reset", self._reset),
        ]

    # --- Faults -----------------------------------------------------------------------------------

    def _state(self, request: ControlRequest) -> Response:
        content = self.sandbox.overview() | {"requests": self.history.counts(), "faults": self._fault_list()}
        return Response.with_json(200, content)

    def _fault_list(self) -> list[dict[str, Any]]:
        now = self.sandbox.now
        return [fault_to_json(scripted, now) for scripted in self.sandbox.waiting_faults()]

    def _faults(self, request: ControlRequest) -> Response:
        return Response.with_json(200, {"faults": self._fault_list()})

    def _add_fault(self, request: ControlRequest) -> Response:
        try:
            scripted = self.sandbox.inject(fault_from_json(request.json()))
        except FaultError as error:
            raise RequestRefused(400, str(error)) from error
        except ValueError as error:  # too many wait
            raise RequestRefused(409, str(error)) from error
        return Response.with_json(201, fault_to_json(scripted, self.sandbox.now))

    def _clear_faults(self, request: ControlRequest) -> Response:
        self.sandbox.clear_faults()
        return Response.with_json(200, {"faults": []})

    def _remove_fault(self, request: ControlRequest, number: int) -> Response:
        if not self.sandbox.remove_fault(number):
            raise RequestRefused(404, "There is no such fault. It was removed, or requests have consumed it.")
        return self._faults(request)

    def _set_random_faults(self, request: ControlRequest) -> Response:
        content = request.json()
        percent = content.get("percent") if isinstance(content, dict) else None
        if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
            raise RequestRefused(400, "percent must be a number from 0 to 100.")
        self.sandbox.set_fail_percent(percent)
        return Response.with_json(200, {"percent": percent})

    def _set_keys(self, request: ControlRequest) -> Response:
        """Change what is given: ``listing``, ``idempotency`` and ``refused``, the positions of revoked keys."""
        content = request.json()
        content = content if isinstance(content, dict) else {"": content}
        scopes = {name: content[name] for name in ("listing", "idempotency") if name in content}
        refused = content.get("refused", [])
        if content.keys() - {*scopes, "refused"} or any(scope not in SCOPES for scope in scopes.values()):
            raise RequestRefused(400, "listing and idempotency must be workspace or key.")
        if not isinstance(refused, list) or not all(type(position) is int for position in refused):
            raise RequestRefused(400, "refused must be a list of positions of API keys, from 1.")
        self.sandbox.set_scopes(**scopes)
        if "refused" in content:
            self.sandbox.refuse_keys(refused)
        return Response.with_json(200, self.sandbox.overview()["keys"])

    def _reset(self, request: ControlRequest) -> Response:
        self.sandbox.reset()
        self.history.clear()
        return Response.with_json(200, {"status": "ok"})

    # --- Requests and records ---------------------------------------------------------------------

    def _requests(self, request: ControlRequest) -> Response:
        query = request.query
        entries = self.history.entries()
        states = self._states(entries)
        rows = []
        for entry in entries:
            state = states[entry.number]
            if matches(entry, query) and query.get("state", state) == state and has_text(entry, query):
                rows.append(summarise_request(entry, state))
                if len(rows) == MAX_ROWS:
                    break
        content = {"requests": rows, "counts": self.history.counts(), "choices": choices(entries, states)}
        return Response.with_json(200, content)

    def _states(self, entries: list[Entry]) -> dict[int, str]:
        by_id = self.sandbox.batch_states(
            {entry.arrival.batch_id for entry in entries if entry.arrival.batch_id}
        )
        return {entry.number: state_of(entry, by_id) for entry in entries}

    def _forget_requests(self, request: ControlRequest) -> Response:
        self.history.clear()
        return Response.with_json(200, {"counts": self.history.counts()})

    def _entry(self, number: int) -> Entry:
        entry = self.history.get(number)
        if entry is None:
            raise RequestRefused(404, "The sandbox has no such request, or has forgotten it.")
        return entry

    def _request(self, request: ControlRequest, number: int) -> Response:
        entry = self._entry(number)
        content = summarise_request(entry, self._states([entry])[number]) | {
            "headers": entry.headers,
            "response": entry.response.decode("utf-8", "replace"),
            "response_bytes": entry.response_size,
            "records_in_body": list(summarise_records(entry)) if entry.arrival.method == "POST" else [],
        }
        return Response.with_json(200, printable(content))

    def _body(self, request: ControlRequest, number: int) -> Response:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f'attachment; filename="request-{number}.txt"',
        }
        return Response(200, self._entry(number).body, headers)

    def _record(self, request: ControlRequest, number: int, index: int) -> Response:
        lines = split_records(self._entry(number))
        if index >= len(lines):
            raise RequestRefused(404, "The request has no such record.")
        return Response(200, lines[index], {"Content-Type": "application/octet-stream"})

    def _records(self, request: ControlRequest) -> Response:
        query, scanned = request.query, 0
        rows: list[dict[str, Any]] = []
        entries = [entry for entry in self.history.entries() if entry.arrival.method == "POST"]
        for entry in entries:
            if len(rows) >= MAX_ROWS or scanned >= MAX_SCANNED_BYTES:
                break
            if matches(entry, query) and has_text(entry, query):
                scanned += len(entry.body)
                rows += list(matching_records(entry, query))
        content = {"records": rows[:MAX_ROWS], "is_partial": scanned >= MAX_SCANNED_BYTES}
        return Response.with_json(200, printable(content | {"choices": choices(entries, {})}))
