"""The names, types and labels of all metrics.

Names follow the conventions of Prometheus: a prefix, base units, the unit as the suffix, and ``_total`` for counters.
"""

from __future__ import annotations

from typing import NamedTuple

PREFIX = "evermuse_outbox_"

DATABASE, WORKSPACE = ("database",), ("database", "workspace")
"""Labels that most metrics have."""


class Metric(NamedTuple):
    """A metric: ``kind`` is ``gauge`` or ``counter``."""

    kind: str
    labels: tuple[str, ...]
    help: str


class Sample(NamedTuple):
    """One value of a metric, which is named without its prefix."""

    metric: str
    labels: tuple[str, ...]
    value: float

    @property
    def name(self) -> str:
        """The full name of the metric."""
        return PREFIX + self.metric


_GAUGES = {
    "database_up": (DATABASE, "1 if the database was read, 0 if it was not. Then it has no other metrics."),
    "scrape_duration_seconds": (DATABASE, "How long the reading of all figures of the database took."),
    "problems": ((*DATABASE, "kind"), "What disturbs the delivery now, as in outbox_status --check."),
    "pending_records": (WORKSPACE, "Records that no batch has taken."),
    "pending_records_exact": (
        WORKSPACE,
        "1 if pending_records is exact, 0 if it is an estimate or a minimum.",
    ),
    "pending_groups": (WORKSPACE, "Groups with pending records, up to 1000."),
    "lag_seconds": (WORKSPACE, "Age of the oldest record that Evermuse has not accepted; 0 without one."),
    "in_flight_records": (WORKSPACE, "Records in batches that are not finished."),
    "accepted_records": (WORKSPACE, "Records that Evermuse accepted in the last minute."),
    "delivered_records": (WORKSPACE, "Records that Evermuse completed in the last hour."),
    "drain_estimate_seconds": (
        WORKSPACE,
        "Time until no record is pending, at the speed of the last minute. Missing without speed.",
    ),
    "rate_limit_used_ratio": (
        WORKSPACE,
        "Requests in the last minute, divided by the number that RATE_LIMIT allows.",
    ),
    "requests": ((*WORKSPACE, "call", "outcome", "status"), "Requests in the last hour."),
    "request_duration_seconds": ((*WORKSPACE, "quantile"), "Quantiles of the newest 2000 requests."),
    "attachments": (
        (*WORKSPACE, "state"),
        "Attachments that Evermuse fetches now (in_progress), or could not fetch in the last hour (failed).",
    ),
    "batches": ((*WORKSPACE, "state"), "Batches that are not finished, by state."),
    "in_doubt_seconds": (WORKSPACE, "Time since the sealing of the oldest batch in doubt; 0 without one."),
    "workspace_state": ((*WORKSPACE, "state"), "1 for the state of the workspace, 0 for all other states."),
    "workspace_failures": (WORKSPACE, "Failed requests in a row."),
    "workers": (DATABASE, "Processes that were seen in the last 3 minutes."),
    "worker_silence_seconds": (
        DATABASE,
        "Time since a process was seen; the age of the oldest unsent record if none ever was.",
    ),
    "rejected_records": (DATABASE, "Rejected records that wait for a person."),
    "rejected_records_exact": (DATABASE, "1 if rejected_records is exact, 0 if it is a minimum."),
    "rejections": (
        (*DATABASE, "code"),
        "Rejections in the last hour, by code. At most 20 codes; the others are in code=other.",
    ),
    "label_pending_records": (
        (*DATABASE, "label", "value"),
        "Pending records by the value of METRICS_LABEL. At most 20 values; the others are in value=other.",
    ),
    "label_rejected_records": (
        (*DATABASE, "label", "value"),
        "Rejected records by the value of METRICS_LABEL. At most 20 values; the others are in value=other.",
    ),
    "label_records_exact": (
        (*DATABASE, "label", "state"),
        "1 if all records in the state were counted by label, 0 if only 50000 were.",
    ),
    "rules": ((*DATABASE, "action"), "Standing rules that are active, by what they do."),
    "rule_held_records": (DATABASE, "Records that standing rules hold back now, up to 100000."),
    "open_incidents": ((*DATABASE, "kind"), "Incidents that have not ended, by kind."),
    "operations": ((*DATABASE, "state"), "Jobs that are not finished, and those that have failed, by state."),
    "clock_drift_seconds": (
        (*DATABASE, "clock"),
        "Seconds by which a clock is ahead of that of the database; negative if behind.",
    ),
}

_COUNTERS = {
    "sealed_batches_total": (WORKSPACE, "Batches of pending records that were sealed since the first start."),
}

METRICS: dict[str, Metric] = {
    **{PREFIX + name: Metric("gauge", *columns) for name, columns in _GAUGES.items()},
    **{PREFIX + name: Metric("counter", *columns) for name, columns in _COUNTERS.items()},
}
"""Every metric by its full name."""
