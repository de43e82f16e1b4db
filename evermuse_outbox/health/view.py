"""The view: status 200 or 503, and which checks fail."""

from __future__ import annotations

from typing import Any

from django.db import Error as DatabaseError
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from ..conf import get_settings
from ..foreign_text import get_logger, log_ids, summarise_error
from ..insight import find_problems

logger = get_logger(__name__)

FAILURES = ("workers", "workspace", "group", "lag")
"""Kinds of problems that disturb the delivery: the checks of the answer."""


def read_health() -> dict[str, Any]:
    """Return the health of all databases: ``status`` is ``ok`` or ``failing``, as is each value of ``checks``.

    A database that does not answer fails the check ``database``.
    """
    failing: set[str] = set()
    for using in get_settings().databases:
        try:
            failing |= {problem.kind for problem in find_problems(using) if problem.is_failure}
        except DatabaseError as error:
            logger.warning(
                "the health of the database %s is unknown (%s)",
                using,
                summarise_error(error),
                extra=log_ids(database=using),
            )
            failing.add("database")
    checks = {name: "failing" if name in failing else "ok" for name in ("database", *FAILURES)}
    return {"status": "failing" if failing else "ok", "checks": checks}


@never_cache
@require_safe
def health(request: HttpRequest) -> JsonResponse:  # noqa: ARG001 -- Django passes the request
    """Answer 200 if the outbox delivers, else 503."""
    result = read_health()
    return JsonResponse(result, status=200 if result["status"] == "ok" else 503)
