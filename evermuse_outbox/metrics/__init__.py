"""Metrics for Prometheus: figures that are read from the database when they are scraped.

Workers count nothing in memory. They are many short-lived processes without a port, and the tables know everything:
one scrape of any process has the figures of all. This package must only read, each figure with a bound, and it must
import without ``prometheus-client``. Its public interface is ``view``, ``expose`` and :class:`OutboxCollector` for
hosts, and ``METRICS``, which tests compare with the dashboard and the alerts.
"""

from .collector import CONTENT_TYPE, NEEDS_CLIENT, OutboxCollector, expose
from .definitions import METRICS, Metric, Sample
from .figures import read_samples
from .views import view

__all__ = [
    "CONTENT_TYPE",
    "METRICS",
    "NEEDS_CLIENT",
    "Metric",
    "OutboxCollector",
    "Sample",
    "expose",
    "read_samples",
    "view",
]
