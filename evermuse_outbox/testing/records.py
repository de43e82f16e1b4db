"""Read what was enqueued, and assert it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, overload

from django.db.models import Max

from ..models import OutboxRecord
from .databases import usable_databases
from .lookups import Lookup, read_lookups, shorten

__unittest = True  # unittest leaves the frames of this module out of a failure

MAX_LISTED = 10
"""Records that the message of a failed assertion lists."""


class EnqueuedRecord(dict[str, Any]):
    """The envelope of a record, as Evermuse receives it: ``record["_type"]``, ``record["data"]``.

    Attributes:
        row: The stored row, with ``pk``, ``state``, ``workspace`` and ``enqueued_at``.
    """

    def __init__(self, row: OutboxRecord) -> None:
        super().__init__(row.envelope())
        self.row = row

    @property
    def state(self) -> str:
        """The state of the record when it was read, such as ``"pending"``."""
        return self.row.state


class OutboxRecords(Sequence[EnqueuedRecord]):
    """The records in the outbox, the oldest first. Each use reads the database again.

    It behaves like a list: ``len(records)``, ``records[0]``, ``for record in records``.

    Args:
        using: Database alias. By default, every database of the outbox that the test may use.
        workspace: Name of a workspace. By default, all workspaces.
    """

    def __init__(self, using: str | None = None, workspace: str | None = None) -> None:
        self._using = using
        self._workspace = workspace
        self._after: Mapping[str, int] = {}
        self._until: Mapping[str, int] | None = None

    def start(self) -> None:
        """Leave out the records that are there now."""
        self._after = self._last_ids()

    def stop(self) -> None:
        """Leave out the records that are enqueued from now on."""
        self._until = self._last_ids()

    def matching(self, *, state: str | None = None, **lookups: Any) -> list[EnqueuedRecord]:
        """Return the records that fulfil all lookups, the oldest first.

        Args:
            state: State of the records, such as ``"pending"`` or ``"rejected"``.
            lookups: Conditions on the envelope, as for :func:`assert_enqueued`.
        """
        conditions = read_lookups(lookups)
        return [
            record
            for record in self._read()
            if state in (None, record.state) and all(lookup.matches(record) for lookup in conditions)
        ]

    @overload
    def assert_enqueued(
        self, *, count: None = None, using: str | None = None, workspace: str | None = None, **lookups: Any
    ) -> EnqueuedRecord: ...
    @overload
    def assert_enqueued(
        self, *, count: int, using: str | None = None, workspace: str | None = None, **lookups: Any
    ) -> list[EnqueuedRecord]: ...
    def assert_enqueued(
        self,
        *,
        count: int | None = None,
        using: str | None = None,
        workspace: str | None = None,
        **lookups: Any,
    ) -> EnqueuedRecord | list[EnqueuedRecord]:
        """Assert that a record with these values was enqueued; see :func:`assert_enqueued`."""
        __tracebackhide__ = True
        conditions, records = read_lookups(lookups), list(self._read(using, workspace))
        matches = [record for record in records if all(lookup.matches(record) for lookup in conditions)]
        if count is None and matches:
            return matches[-1]
        if count is not None and len(matches) == count:
            return matches
        raise AssertionError(_describe_failure(conditions, records, matches, count))

    def refute_enqueued(
        self, *, using: str | None = None, workspace: str | None = None, **lookups: Any
    ) -> None:
        """Assert that no record with these values was enqueued; see :func:`refute_enqueued`."""
        __tracebackhide__ = True
        self.assert_enqueued(count=0, using=using, workspace=workspace, **lookups)

    def _read(self, using: str | None = None, workspace: str | None = None) -> Iterator[EnqueuedRecord]:
        for alias in usable_databases(using or self._using):
            rows = OutboxRecord.objects.using(alias).order_by("pk").filter(pk__gt=self._after.get(alias, 0))
            if self._until is not None:
                rows = rows.filter(pk__lte=self._until.get(alias, 0))
            for name in {self._workspace, workspace} - {None}:
                rows = rows.filter(workspace=name)
            yield from (EnqueuedRecord(row) for row in rows)

    def _last_ids(self) -> dict[str, int]:
        rows = {alias: OutboxRecord.rows.using(alias) for alias in usable_databases(self._using)}
        return {alias: rows[alias].aggregate(last=Max("pk"))["last"] or 0 for alias in rows}

    def __len__(self) -> int:
        return len(list(self._read()))

    def __iter__(self) -> Iterator[EnqueuedRecord]:
        return self._read()

    @overload
    def __getitem__(self, index: int) -> EnqueuedRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[EnqueuedRecord]: ...
    def __getitem__(self, index: int | slice) -> EnqueuedRecord | list[EnqueuedRecord]:
        return list(self._read())[index]

    def __eq__(self, other: object) -> bool:
        return list(self._read()) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # its content changes

    def __repr__(self) -> str:
        return repr(list(self._read()))


def enqueued(
    using: str | None = None, workspace: str | None = None, state: str | None = None, **lookups: Any
) -> list[EnqueuedRecord]:
    """Return the records in the outbox as Evermuse would receive them, the oldest first.

    Args:
        using: Database alias. By default, every database of the outbox that the test may use.
        workspace: Name of a workspace. By default, all workspaces.
        state: State of the records, such as ``"pending"`` or ``"rejected"``.
        lookups: Conditions on the envelope, as for :func:`assert_enqueued`.
    """
    return OutboxRecords(using, workspace).matching(state=state, **lookups)


@overload
def assert_enqueued(
    *, count: None = None, using: str | None = None, workspace: str | None = None, **lookups: Any
) -> EnqueuedRecord: ...
@overload
def assert_enqueued(
    *, count: int, using: str | None = None, workspace: str | None = None, **lookups: Any
) -> list[EnqueuedRecord]: ...
def assert_enqueued(
    *, count: int | None = None, using: str | None = None, workspace: str | None = None, **lookups: Any
) -> EnqueuedRecord | list[EnqueuedRecord]:
    """Assert that a record with these values is in the outbox.

    Example: ``assert_enqueued(type="email", data__subject__icontains="refund", vendor_ids__message_id="mail-17")``.

    Args:
        count: Number of such records. By default, at least one.
        using: Database alias. By default, every database of the outbox that the test may use.
        workspace: Name of a workspace. By default, all workspaces.
        lookups: Conditions on the envelope. Each begins with a field, without its underscore. Keys of objects and
            positions in arrays follow: ``participants__0__email``. The last name may be an operator: ``exact``,
            ``iexact``, ``contains``, ``icontains``, ``startswith``, ``endswith``, ``regex``, ``in``, ``gt``, ``gte``,
            ``lt``, ``lte`` or ``isnull``.

    Returns:
        The newest matching record, or a list of all of them if ``count`` is given.

    Raises:
        AssertionError: There is no such record, or another number of them. The message lists what was enqueued, and
            what differs in the nearest record.
        TypeError: A lookup does not begin with a field of the envelope.
    """
    __tracebackhide__ = True
    records = OutboxRecords(using, workspace)
    return (
        records.assert_enqueued(**lookups)
        if count is None
        else records.assert_enqueued(count=count, **lookups)
    )


def refute_enqueued(*, using: str | None = None, workspace: str | None = None, **lookups: Any) -> None:
    """Assert that no record with these values is in the outbox. Without lookups: that the outbox is empty.

    The arguments are those of :func:`assert_enqueued`.
    """
    __tracebackhide__ = True
    OutboxRecords(using, workspace).refute_enqueued(**lookups)


@contextmanager
def capture_records(using: str | None = None, workspace: str | None = None) -> Iterator[OutboxRecords]:
    """Yield the records that are enqueued inside of the ``with`` block.

    A record of a transaction that was rolled back is not among them. Records of a transaction that is still open are.

    Args:
        using: Database alias. By default, every database of the outbox that the test may use.
        workspace: Name of a workspace. By default, all workspaces.
    """
    records = OutboxRecords(using, workspace)
    records.start()
    yield records
    records.stop()  # not after an error: the transaction may be broken, and a query would hide the error


def describe(record: EnqueuedRecord) -> str:
    """Return one line that shows which record this is."""
    row, ids = record.row, record.get("_vendor_ids")
    place = "".join(f", {name} {value}" for name, value in _unusual_places(row))
    return f"#{row.pk} {row.type} {shorten(ids)}{place}, {record.state}, data {shorten(record.get('data'))}"


def _unusual_places(row: OutboxRecord) -> Iterator[tuple[str, str]]:
    if row.workspace != "default":
        yield "workspace", row.workspace
    if row._state.db not in (None, "default"):
        yield "database", str(row._state.db)


def _describe_failure(
    conditions: Sequence[Lookup],
    records: Sequence[EnqueuedRecord],
    matches: Sequence[EnqueuedRecord],
    count: int | None,
) -> str:
    wanted = ", ".join(f"{lookup.text}={shorten(lookup.expected)}" for lookup in conditions)
    such = f" with {wanted}" if wanted else ""
    if matches:
        heading = f"Records{such}: {len(matches)} enqueued, {count} expected."
        return "\n".join([heading, *_list(matches)])
    heading = f"No record{such} was enqueued."
    if not records:
        return heading if not wanted else f"{heading} Nothing was enqueued."
    return "\n".join(
        [heading, *_describe_nearest(conditions, records), f"Enqueued: {len(records)}", *_list(records)]
    )


def _describe_nearest(conditions: Sequence[Lookup], records: Sequence[EnqueuedRecord]) -> Iterator[str]:
    """Yield what differs in the record that is closest to the conditions; in the newest of equal ones."""
    nearest = max(
        reversed(records), key=lambda record: sum(lookup.closeness(record) for lookup in conditions)
    )
    yield f"The nearest record is #{nearest.row.pk}:"
    yield from (f"  {lookup.difference(nearest)}" for lookup in conditions if not lookup.matches(nearest))


def _list(records: Sequence[EnqueuedRecord]) -> Iterator[str]:
    yield from (f"  {describe(record)}" for record in records[-MAX_LISTED:])
    if len(records) > MAX_LISTED:
        yield f"  … and {len(records) - MAX_LISTED} older records"
