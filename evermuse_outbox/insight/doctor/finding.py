"""Findings: what is wrong, and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        area: ``schema``, ``migrations``, ``settings``, ``storage``, ``workers``, ``clocks`` or ``api``.
        where: the database, table or workspace.
        problem: what is wrong, as a sentence.
        remedy: what to do, as a sentence or a statement.
    """

    area: str
    where: str
    problem: str
    remedy: str

    def to_json(self) -> dict[str, str]:
        """Return the finding for :mod:`json`."""
        return asdict(self)
