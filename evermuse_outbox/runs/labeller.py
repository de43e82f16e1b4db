"""Give the records of one call their label sets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..evermuse import FieldError, InvalidRecord
from .handle import Run
from .label_sets import label_set_id
from .rules import check_labels

Labels = Mapping[str, str]


class Labeller:
    """The labels of one call: the same for all records, or those that a function of the host returns for each.

    Labels of a record replace labels of the run with the same name. The sets are found or inserted in the transaction
    that inserts the records.
    """

    def __init__(
        self, using: str, labels: Labels | Callable[[Any], Labels | None] | None, run: Run | None
    ) -> None:
        self._using, self.run = using, run
        self._run_id = run.id if run else None
        self._shared = check_labels(run.labels) if run else {}
        self._function = labels if callable(labels) else None
        if labels is not None and not callable(labels):
            self._shared = check_labels({**self._shared, **check_labels(labels)})
        self._of_records: deque[dict[str, str]] = deque()
        self._ids: dict[tuple[tuple[str, str], ...], int | None] = {}

    def observe(self, records: Iterable[Any]) -> Iterable[Any]:
        """Return the records. Their labels are determined when they are read."""
        return records if self._function is None else self._observe(records, self._function)

    def column(self) -> dict[str, int]:
        """Return the column that all records of the call share; nothing without labels and run."""
        pk = self._id_of(self._shared)
        return {} if pk is None else {"label_set_id": pk}

    def columns(self, count: int) -> Mapping[str, int | Sequence[int | None]]:
        """Return the column of the next ``count`` records."""
        if self._function is None:
            return self.column()
        ids = [self._id_of(self._of_records.popleft()) for _ in range(count)]
        return {"label_set_id": ids} if any(ids) else {}

    def _observe(self, records: Iterable[Any], labels_of: Callable[[Any], Labels | None]) -> Iterator[Any]:
        for position, record in enumerate(records):
            try:
                labels = check_labels(labels_of(record) or {})
                self._of_records.append(check_labels({**self._shared, **labels}))
            except InvalidRecord as error:
                raise _with_position(error, position) from None
            yield record

    def _id_of(self, labels: dict[str, str]) -> int | None:
        """Return the id of a set; None for a record without labels and run."""
        if not labels and self._run_id is None:
            return None
        key = tuple(labels.items())
        if key not in self._ids:
            self._ids[key] = label_set_id(self._using, labels, self._run_id)
        return self._ids[key]


def _with_position(error: InvalidRecord, position: int) -> InvalidRecord:
    errors = [FieldError(f"[{position}].{e.path}", e.message, e.got, e.allowed) for e in error.errors]
    return type(error)(errors, error.is_cut)
