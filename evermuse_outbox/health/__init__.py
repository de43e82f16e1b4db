"""A view for load balancers and monitoring: is the outbox healthy.

::

    urlpatterns = [path("health/outbox/", include("evermuse_outbox.health")), …]

The answer has status 200 or 503, and a JSON object without names, reasons or numbers. So the address may be public. It
costs a few small queries. ``manage.py outbox_status --check`` says what is wrong. The package must not decide what is
wrong; ``insight`` does. Its interface is :func:`health`, :func:`read_health` and ``urlpatterns``.
"""

from __future__ import annotations

from django.urls import path

from .view import FAILURES, health, read_health

__all__ = ["FAILURES", "health", "read_health", "urlpatterns"]

urlpatterns = [path("", health, name="evermuse_outbox_health")]
