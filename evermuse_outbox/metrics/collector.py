"""A collector for ``prometheus-client``: it reads the database at each scrape, and keeps nothing between them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from ..conf import get_settings
from ..delivery.context import statement_deadlines
from ..foreign_text import get_logger, log_ids, summarise_error
from .definitions import METRICS, Sample
from .figures import read_samples

logger = get_logger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Media type of the text format. Source: Prometheus, exposition formats."""


NEEDS_CLIENT = 'Metrics need prometheus-client: pip install "evermuse-outbox[prometheus]".'


class OutboxCollector:
    """The metrics of all ``DATABASES``, or of the given ones.

    Register it with the registry of the host, or use ``view``. A database that does not answer has only the metric
    ``evermuse_outbox_database_up`` with the value 0.
    """

    def __init__(self, databases: tuple[str, ...] | None = None) -> None:
        self._databases = databases

    def describe(self) -> list[Any]:
        """Return nothing, so that the registration reads no database."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yield each metric with its samples."""
        families = {name: _family(name) for name in METRICS}
        for sample in self._samples():
            families[sample.name].add_metric(sample.labels, sample.value)
        yield from families.values()

    def _samples(self) -> Iterator[Sample]:
        for using in self._databases or get_settings().databases:
            yield from _samples_of(using)


def expose(databases: tuple[str, ...] | None = None) -> bytes:
    """Return the metrics in the text format of Prometheus.

    Raise ``ImproperlyConfigured`` if ``prometheus-client`` is not installed.
    """
    exposition, registry = _client().generate_latest, _client().CollectorRegistry(auto_describe=False)
    registry.register(OutboxCollector(databases))
    text: bytes = exposition(registry)
    return text


def _samples_of(using: str) -> list[Sample]:
    """Return the figures of a database: all of them, or only that it cannot be read."""
    started = time.monotonic()
    try:
        with statement_deadlines():
            samples = [*read_samples(using)]
    except DatabaseError as error:
        ids = log_ids(database=using)
        logger.warning("the metrics cannot be read from %s: %s", using, summarise_error(error), extra=ids)
        return [Sample("database_up", (using,), 0)]
    seconds = time.monotonic() - started
    return [
        Sample("database_up", (using,), 1),
        Sample("scrape_duration_seconds", (using,), seconds),
        *samples,
    ]


def _family(name: str) -> Any:
    metric = METRICS[name]
    families = _client().metrics_core
    kinds = {"gauge": families.GaugeMetricFamily, "counter": families.CounterMetricFamily}
    return kinds[metric.kind](name, metric.help, labels=metric.labels)


def _client() -> Any:
    try:
        import prometheus_client
    except ImportError:
        raise ImproperlyConfigured(NEEDS_CLIENT) from None
    return prometheus_client
