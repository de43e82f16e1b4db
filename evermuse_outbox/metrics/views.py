"""The view that Prometheus scrapes."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from .collector import CONTENT_TYPE, expose


@require_safe
def view(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 -- Django calls it
    """Return the metrics of all databases. Protect the URL: names of workspaces and figures are not public."""
    return HttpResponse(expose(), content_type=CONTENT_TYPE)
