"""Which requests may see and change the sandbox. A web page of another origin must not."""

from __future__ import annotations

import hmac
from email.message import Message
from ipaddress import ip_address

from ..responses import RequestRefused


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on ``host``."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def check_origin(method: str, headers: Message[str, str]) -> None:
    """Refuse requests that a page of another origin sent through a browser.

    A browser sends ``Sec-Fetch-Site`` or ``Origin`` with them. A command line sends neither. A request that changes
    something must be JSON or a DELETE: a page of another origin can send neither without a permission (CORS), and the
    sandbox gives none.

    Raises:
        RequestRefused: 403 or 415.
    """
    origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site", "none")
    host = headers.get("Host", "")
    if site not in ("same-origin", "none") or origin not in (None, f"http://{host}", f"https://{host}"):
        raise RequestRefused(403, "A page of another origin must not use the control of the sandbox.")
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if method in ("POST", "PUT") and media_type != "application/json":
        raise RequestRefused(415, "Content-Type must be application/json.")


def check_token(token: str, headers: Message[str, str]) -> None:
    """Refuse requests without the token, if there is one.

    Raises:
        RequestRefused: 401.
    """
    given = headers.get("Authorization", "").removeprefix("Bearer ")
    if token and not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
        raise RequestRefused(
            401, "Send the token of the sandbox in the header Authorization, after the word Bearer."
        )
