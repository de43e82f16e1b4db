"""Figures by the values of one label, for hosts that set ``METRICS_LABEL``.

They are read through the indexes of pending and of closed records, so delivered records cost nothing. The index of
labels would also find those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from ..conf import get_settings
from ..models import OutboxLabel, OutboxRecord, RecordQuerySet, RecordState
from .definitions import Sample

MAX_RECORDS = 50_000
"""Records of each state of which no more are counted."""

MAX_VALUES = 20
"""Values of the label that are told apart in each metric. Each is a time series of Prometheus."""

OTHER = "other"
"""The value that stands for all values that are not told apart."""

IDS_PER_STATEMENT = 500
"""Maximum number of ids in one statement. Old versions of SQLite allow 999 parameters."""


def read_by_label(using: str) -> Iterator[Sample]:
    """Yield the figures of the label in the settings. Without one, send no statement."""
    label = get_settings().metrics_label
    if label is None:
        return
    rows = OutboxRecord.rows.using(using)
    for state, records in {
        RecordState.PENDING: rows.pending(),
        RecordState.REJECTED: rows.rejected(),
    }.items():
        sets = _count_sets(records)
        is_exact = sets.total() <= MAX_RECORDS
        for value, count in _largest(_count_values(using, label, sets)).items():
            yield Sample(f"label_{state.value}_records", (using, label, value), count)
        yield Sample("label_records_exact", (using, label, state.value), is_exact)


def _count_sets(records: RecordQuerySet) -> Counter[int | None]:
    """Return label set → number of records; None stands for the records without labels."""
    return Counter(records.order_by().values_list("label_set_id", flat=True)[: MAX_RECORDS + 1])


def _count_values(using: str, label: str, sets: Mapping[int | None, int]) -> Counter[str]:
    """Return value of the label → number of records. A record without the label is in none."""
    pks = [pk for pk in sets if pk is not None]
    values: Counter[str] = Counter()
    for start in range(0, len(pks), IDS_PER_STATEMENT):
        rows = OutboxLabel.objects.using(using).filter(
            label_set__in=pks[start : start + IDS_PER_STATEMENT], name=label
        )
        for label_set, name, value in rows.values_list("label_set_id", "name", "value"):
            if name == label:  # a database may compare text without regard to case
                values[value] += sets[label_set]
    return values


def _largest(values: Counter[str]) -> Counter[str]:
    """Return the values with the most records; the sum of all others is that of ``OTHER``."""
    largest = Counter(dict(values.most_common(MAX_VALUES)))
    if others := values.total() - largest.total():
        largest[OTHER] += others
    return largest
