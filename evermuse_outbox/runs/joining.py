"""The run that an import or a backfill makes: started with its first records, and joined after an interruption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..foreign_text import clean_text
from ..models import MAX_RUN_NAME, OutboxRun, run_key
from .handle import Run, find_run, start_run
from .labeller import Labeller


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The name of a run and the labels of its records. There is no row before the first records.

    Attributes:
        name: the name of the run. If a run of this name is open, it is joined.
        labels: labels of the records.
        stays_open: whether the run stays open at the end, because other work joins it.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    stays_open: bool = False

    def columns(self, using: str, workspace: str) -> dict[str, int]:
        """Return the column of records that join the run. Call it in the transaction that inserts them."""
        run = start_run(using, workspace, self.name, self.labels)
        return Labeller(using, self.labels, run).column()

    def end(self, using: str, workspace: str) -> None:
        """Close the run if it is open, unless it stays open."""
        key = run_key(workspace, self.name)
        row = None if self.stays_open else OutboxRun.objects.using(using).filter(open_key=key).first()
        if row:
            Run(row.pk, row.name, workspace, using).close()

    def find(self, using: str, workspace: str) -> Run | None:
        """Return the latest run of this name; None if no record was inserted yet."""
        return find_run(using, workspace, self.name)

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` takes."""
        return {"name": self.name, "labels": dict(self.labels), "stays_open": self.stays_open}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunPlan:
        """Return the plan that :meth:`to_json` has stored."""
        return cls(**values)


def default_run_name(text: str) -> str:
    """Return a text as the name of a run; only the end of a long one."""
    name = clean_text(text).strip()
    return name if len(name) <= MAX_RUN_NAME else f"…{name[1 - MAX_RUN_NAME :].strip()}"
