"""One fault: what happens to a request, and which requests it affects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ..responses import VALIDATION_ERROR, Response, encode_json, error_code

Method = Literal["POST", "GET", "any"]

RecordSelector = int | str | Mapping[str, Any] | Callable[[Mapping[str, Any]], object]
"""What selects the records to reject.

A number is a position in the request, from 0, as ``index`` in the published errors. A text is the value of any vendor
id. A mapping has dotted paths and the values that the record must have there, as in ``{"data.subject": "Hello"}``. A
function gets the record and returns whether to reject it.
"""

MAX_DELAY = 86_400.0
"""Seconds of the longest delay: a day."""

MAX_RETRY_AFTER = 1e12
"""Largest ``retryAfter``, in seconds. It is no limit of the API: a server may send milliseconds by mistake."""


@dataclass(frozen=True)
class Fault:
    """A failure that happens to one admitted request.

    Set ``status`` to replace the response, or ``drop`` to send none. Without either, only the timing (``delay``) or the
    batch (``batch_fails``, ``attachments_fail``) is affected. With ``reject``, the request is processed normally, but
    the selected records are rejected as if they were invalid. The class methods create the common faults.

    A request that is refused because of its API key or the rate limit does not consume a fault. A request that a fault
    does not affect, because of ``on``, ``type``, ``product_id``, ``containing`` or ``reject``, does not consume it
    either.

    Attributes:
        status: HTTP status of the replaced response.
        body: Body of the replaced response. A mapping is sent as JSON. ``None`` means the published error envelope.
        headers: Additional headers of the replaced response.
        retry_after: Seconds, sent as ``retryAfter`` in the error envelope. A 429 that lasts for a number of seconds
            sends the rest of them by default.
        drop: Close the connection without a response.
        after_handling: Process the request first, then drop, delay or replace its response.
        delay: Seconds to wait before the request is processed, or after it if ``after_handling`` is set.
        batch_fails: Let the batch end as FAILED.
        attachments_fail: Number of attachments of the batch that fail to download.
        reject: Which records are rejected: see :data:`RecordSelector`.
        message: Message of the replaced error envelope, or of the error of a rejected record.
        code: Error code of a rejected record.
        on: HTTP method of the requests that are affected.
        type: Only POST requests whose records have this ``_type`` are affected.
        product_id: Only POST requests whose records have this ``_product_id`` are affected.
        containing: Text. If it is set, only requests whose body contains it are affected.

    Raises:
        ValueError: The fields contradict each other.
    """

    status: int | None = None
    body: bytes | str | Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    drop: bool = False
    after_handling: bool = False
    delay: float = 0.0
    batch_fails: bool = False
    attachments_fail: int = 0
    reject: RecordSelector | None = None
    message: str = ""
    code: str = VALIDATION_ERROR
    on: Method = "POST"
    type: str = ""
    product_id: str = ""
    containing: str = ""

    def __post_init__(self) -> None:
        self._check_values()
        if self.drop and self.status is not None:
            raise ValueError("a fault cannot have both drop=True and a status")
        if self.affects_batch and not self.is_request_processed:
            raise ValueError("a batch can only fail if the request is processed: add after_handling=True")
        if self.reject is not None and (self.replaces_response or self.affects_batch or self.delay):
            raise ValueError(
                "a fault that rejects records cannot also have a status, drop, delay or a failing batch"
            )
        if self.on == "GET" and (self.reject is not None or self.type or self.product_id):
            raise ValueError("a GET has no records: use on='POST' with reject, type or product_id")

    def _check_values(self) -> None:
        if self.on not in get_args(Method):
            raise ValueError(f"on must be POST, GET or any, not {self.on!r}")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"status must be from 200 to 599, not {self.status!r}")
        if not 0 <= self.delay <= MAX_DELAY:
            raise ValueError(f"delay must be from 0 to {MAX_DELAY:.0f} seconds, not {self.delay!r}")
        if self.retry_after is not None and not 0 <= self.retry_after <= MAX_RETRY_AFTER:
            raise ValueError(
                f"retry_after must be from 0 to {MAX_RETRY_AFTER:.0f} seconds, not {self.retry_after!r}"
            )
        if isinstance(self.reject, bool) or (isinstance(self.reject, int) and self.reject < 0):
            raise ValueError("reject must be a position from 0, a vendor id, a mapping or a function")

    @classmethod
    def server_error(cls, **fields: Any) -> Fault:
        """Return a fault that responds with 500 in the published envelope."""
        return cls(status=500, **fields)

    @classmethod
    def proxy_page(cls, status: int, **fields: Any) -> Fault:
        """Return a fault that responds with ``status`` and an HTML page, as a firewall or a load balancer does."""
        page = f"<html><body><h1>{status}</h1></body></html>"
        return cls(status=status, body=page, headers={"Content-Type": "text/html"}, **fields)

    @classmethod
    def bad_gateway(cls, **fields: Any) -> Fault:
        """Return a fault that responds with 502 and an HTML page, as a proxy does."""
        return cls.proxy_page(502, **fields)

    @classmethod
    def no_credits(cls, **fields: Any) -> Fault:
        """Return a fault that responds with 402: the workspace has no credits."""
        return cls(status=402, **fields)

    @classmethod
    def too_many(cls, retry_after: float = 1.0, **fields: Any) -> Fault:
        """Return a fault that responds with 429 and ``retry_after`` seconds, even if the rate limit is not reached."""
        return cls(status=429, retry_after=retry_after, **fields)

    @classmethod
    def drop_before(cls, **fields: Any) -> Fault:
        """Return a fault that closes the connection before the request is processed."""
        return cls(drop=True, **fields)

    @classmethod
    def drop_after(cls, **fields: Any) -> Fault:
        """Return a fault that processes the request and closes the connection without a response."""
        return cls(drop=True, after_handling=True, **fields)

    @classmethod
    def slow(cls, seconds: float, **fields: Any) -> Fault:
        """Return a fault that processes the request at once and responds ``seconds`` later."""
        return cls(delay=seconds, after_handling=True, **fields)

    @classmethod
    def garbage(cls, **fields: Any) -> Fault:
        """Return a fault that processes the request and responds with 202 and broken JSON."""
        return cls(status=202, body='{"batchId": "ba', after_handling=True, **fields)

    @classmethod
    def failed_batch(cls, **fields: Any) -> Fault:
        """Return a fault that accepts the request, with a batch that ends as FAILED."""
        return cls(batch_fails=True, **fields)

    @classmethod
    def failed_attachments(cls, count: int = 1, **fields: Any) -> Fault:
        """Return a fault that accepts the request and fails the download of ``count`` attachments."""
        return cls(attachments_fail=count, **fields)

    @classmethod
    def rejected_record(cls, which: RecordSelector, message: str = "", **fields: Any) -> Fault:
        """Return a fault that rejects the selected records of a request. The others are accepted."""
        return cls(reject=which, message=message, **fields)

    @property
    def is_request_processed(self) -> bool:
        """Whether the request is processed in spite of the fault."""
        return self.after_handling or not self.replaces_response

    @property
    def replaces_response(self) -> bool:
        """Whether the client does not receive the normal response."""
        return self.drop or self.status is not None

    @property
    def affects_batch(self) -> bool:
        """Whether the batch, or the download of one of its attachments, fails after the request."""
        return self.batch_fails or self.attachments_fail > 0

    def to_response(self) -> Response:
        """Return the response that replaces the normal one. The fault must have a ``status``."""
        assert self.status is not None
        headers = {"Content-Type": "application/json", **self.headers}
        return Response(self.status, self._encode_body(self.status), headers)

    def _encode_body(self, status: int) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        if isinstance(self.body, str):
            return self.body.encode()
        if self.body is not None:
            return encode_json(self.body)
        retry_after = {} if self.retry_after is None else {"retryAfter": self.retry_after}
        return encode_json({"error": error_code(status), "message": self.text, **retry_after})

    @property
    def text(self) -> str:
        """The message of the error that the client receives."""
        return self.message or "This error was injected by the sandbox."

    @property
    def is_permanent_by_default(self) -> bool:
        """Whether it is natural that the fault lasts: a record that is bad is bad in each request."""
        return self.reject is not None and not isinstance(self.reject, int)

    @property
    def depends_on_content(self) -> bool:
        """Whether the body of a request decides if the fault affects it."""
        return bool(self.containing or self.type or self.product_id)

    def selects(self, index: int, record: object) -> bool:
        """Return whether the fault rejects the record at the position ``index`` of a request."""
        if isinstance(self.reject, int):
            return index == self.reject
        if not isinstance(record, Mapping):
            return False
        if isinstance(self.reject, str):
            vendor_ids = record.get("_vendor_ids")
            return isinstance(vendor_ids, Mapping) and self.reject in vendor_ids.values()
        if isinstance(self.reject, Mapping):
            return all(value_at(record, path) == value for path, value in self.reject.items())
        return self.reject is not None and bool(self.reject(record))


def value_at(record: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path such as ``data.subject``, or None. A number is a position in an array."""
    value: Any = record
    for step in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
