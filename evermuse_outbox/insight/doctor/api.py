"""Prove the API key and the address of a workspace with one read, which costs one permit of the rate limit."""

from __future__ import annotations

from functools import partial

from ...conf import see_docs
from ...delivery.context import DeliveryContext
from ...delivery.gates import acquire_permit, call_with_permit
from ...evermuse import Unanswered, Unreachable
from ...evermuse.api import KeyRefused, Throttled, classify_read, read_page
from ...foreign_text import describe_error
from ...ratelimit import ThrottleUnavailable
from ..explaining import list_keys
from .finding import Finding

CHECK_KEY = "Check this key, and the API_URL of the workspace. The key needs the right api:read."
CHECK_SETTINGS = f"Correct the settings. {see_docs('how-to/api-keys.md')}"
CHECK_REDIS = "Check REDIS_URL, and that the server of Redis answers."
CHECK_TABLES = (
    "Run: manage.py migrate evermuse_outbox. The database holds the rate limit, so it must have the tables."
)
CHECK_NETWORK = "Check the API_URL, DNS, firewalls and proxies between this host and Evermuse."
CHECK_ANSWER = "Check that the API_URL leads to Evermuse, and look at the status page of Evermuse."


def examine_api(context: DeliveryContext) -> list[Finding]:
    """Read the newest batches of a workspace with each of its keys; return what is wrong. No row is changed."""
    if not context.pool:
        return _examine_key(context, context.workspace_name)
    shown = list_keys(context.workspace_name)
    names = {key: f"{context.workspace_name}, key {shown.get(key, key)}" for key in context.pool}
    return [finding for key, name in names.items() for finding in _examine_key(context.with_key(key), name)]


def _examine_key(context: DeliveryContext, name: str) -> list[Finding]:
    if not context.workspace.has_key:
        return [Finding("api", name, "The workspace has no API_KEY.", "Set it from the environment.")]
    if problem := context.workspace.problem:
        return [Finding("api", name, f"The API key is not used: {problem}", CHECK_SETTINGS)]
    try:
        permit = acquire_permit(context)
        if permit is None:
            problem = "No permit of the rate limit was free for the test of the API key."
            return [Finding("api", name, problem, "Try again later, or use --offline.")]
        request = partial(context.client.batches, limit=1, cursor=None)
        answer = call_with_permit(context, permit, request, is_send=False)
    except ThrottleUnavailable as error:
        remedy = CHECK_REDIS if context.settings.redis_url else CHECK_TABLES
        return [Finding("api", name, f"The rate limit is not available: {describe_error(error)}", remedy)]
    except (Unreachable, Unanswered) as error:
        return [Finding("api", name, f"Evermuse did not answer: {describe_error(error)}", CHECK_NETWORK)]
    outcome = classify_read(answer)
    if outcome is None and read_page(answer) is None:
        return [Finding("api", name, "The answer is no list of batches.", CHECK_ANSWER)]
    if outcome is None:
        return []
    if isinstance(outcome, Throttled):
        return [
            Finding("api", name, f"Evermuse throttles: {outcome.message}", "Wait for the time that it names.")
        ]
    remedy = CHECK_KEY if isinstance(outcome, KeyRefused) else CHECK_ANSWER
    message = getattr(outcome, "message", "")
    return [Finding("api", name, f"Evermuse refused the read: {message}", remedy)]
