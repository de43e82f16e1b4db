"""The protocol of batches and versions as a state machine: states, actions and properties.

Only what matters for the guarantees is in it. There is no time: every delay is possible. Each action is one step that
nothing interrupts, because the pipeline does it in one transaction or with one request. Names are those of
``docs/reference/states.md``.

A state is an immutable value. ``Protocol.steps`` yields each action that is possible in a state, with the state that
follows. ``Protocol.violations`` names the properties that a state breaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations
from typing import Any, NamedTuple

FINAL = ("delivered", "superseded", "discarded")
SENDABLE = ("sealed", "in_doubt")
OPEN = (*SENDABLE, "sending", "accepted")


class Record(NamedTuple):
    """One version of an identity. Its number, the position in ``State.records``, is the order of enqueueing."""

    state: str = "uncommitted"
    """``uncommitted`` while the transaction of the host is open; then a state of a record."""
    batch: int | None = None
    """Number of its batch while it is in flight."""
    may_be_stored: bool = False
    """Whether it was rejected because its batch failed: Evermuse may have stored it."""


class Batch(NamedTuple):
    """A sealed batch. Its number is its idempotency key, too."""

    members: tuple[int, ...]
    state: str
    in_doubt: bool = False
    resends: int = 0
    may_be_stored: bool = False
    """Whether Evermuse may have stored its records from an earlier batch, which failed."""


class Sender(NamedTuple):
    """A worker that has leased a batch. ``step`` is ``leased``, ``waiting``, or the answer that it has received."""

    batch: int
    step: str = "leased"
    has_lease: bool = True


class State(NamedTuple):
    """Everything at one moment.

    ``late`` are the batches with a request on the way for which no sender waits any more. ``stored`` is the record that
    Evermuse has stored for each identity. ``processed`` are the batches that it has processed under their keys.
    ``overwritten`` is True once an older version has overwritten a newer one.
    """

    records: tuple[Record, ...]
    batches: tuple[Batch, ...] = ()
    senders: tuple[Sender, ...] = ()
    late: frozenset[int] = frozenset()
    stored: tuple[tuple[int, int], ...] = ()
    processed: frozenset[int] = frozenset()
    overwritten: bool = False


class Protocol:
    """The actions of hosts, workers, operators, the network and Evermuse.

    Args:
        identities: the identity of each record, in the order of enqueueing.
        refused: numbers of the records that Evermuse refuses, by name.
        senders: how many workers send at the same time.
        late: how many requests without a waiting sender are on the way at most.
        max_resends: how often the records of a failed batch are sent again.
        without: names of rules to leave out, so that a check can show what each rule prevents.
    """

    RULES = frozenset(
        {
            "an older version in an open batch blocks a newer one",
            "an older version is superseded by a newer one",
            "an expired lease leaves the batch in doubt",
            "in doubt until an answer is clear",
            "a known key processes nothing",
            "records of a failed batch stay in a batch",
        }
    )

    def __init__(
        self,
        identities: tuple[int, ...],
        *,
        refused: frozenset[int] = frozenset(),
        senders: int = 2,
        late: int = 1,
        max_resends: int = 1,
        without: frozenset[str] = frozenset(),
    ) -> None:
        if unknown := without - self.RULES:
            raise ValueError(f"unknown rules: {sorted(unknown)}; the rules are {sorted(self.RULES)}")
        self.identities, self.refused, self.without = identities, refused, without
        self.max_senders, self.max_late, self.max_resends = senders, late, max_resends

    def initial(self) -> State:
        """Return the state in which each host has an open transaction with its record."""
        return State(tuple(Record() for _ in self.identities))

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """Yield each possible action, as (name, the state that follows)."""
        for name, after in chain(
            self._hosts(state), self._workers(state), self._network(state), self._operators(state)
        ):
            yield name, _normalise(after)

    def violations(self, state: State) -> list[str]:
        """Return the safety properties that the state breaks."""
        broken = []
        if state.overwritten:
            broken.append("an older version has overwritten a newer one")
        for number, record in enumerate(state.records):
            if (record.batch is not None) is not (record.state == "in_flight"):
                broken.append(f"record {number} is {record.state} and in batch {record.batch}")
            if record.batch is not None and number not in state.batches[record.batch].members:
                broken.append(f"record {number} is not a member of its batch")
            if record.state == "delivered" and not self._reached(state, number):
                broken.append(f"record {number} is delivered, and Evermuse does not have it")
        members = [number for batch in state.batches if batch.state in OPEN for number in batch.members]
        if len(members) != len(set(members)):
            broken.append("a record is in two open batches")
        return broken

    def is_final(self, state: State) -> bool:
        """Return whether nothing is left to do: each committed record has a final state."""
        return all(record.state in FINAL for record in state.records)

    # --- hosts ------------------------------------------------------------------------------------------

    def _hosts(self, state: State) -> Iterator[tuple[str, State]]:
        for number, record in enumerate(state.records):
            if record.state == "uncommitted":  # transactions commit in any order
                yield f"commit {number}", _with_record(state, number, "pending")

    # --- workers ----------------------------------------------------------------------------------------

    def _workers(self, state: State) -> Iterator[tuple[str, State]]:
        yield from self._supersede(state)
        if len(state.senders) < self.max_senders:
            yield from self._seal(state)
            yield from self._lease(state)
        for sender in state.senders:
            yield from self._send(state, sender)
        for number, batch in enumerate(state.batches):
            yield from self._maintain(state, number, batch)

    def _supersede(self, state: State) -> Iterator[tuple[str, State]]:
        for number, record in enumerate(state.records):
            if record.state == "pending" and self._is_overtaken(state, number):
                yield f"supersede {number}", _with_record(state, number, "superseded")

    def _seal(self, state: State) -> Iterator[tuple[str, State]]:
        """Seal a batch of any sendable records with different identities, and lease it, in one transaction."""
        sendable = [number for number in range(len(state.records)) if self._is_sendable(state, number)]
        for members in chain.from_iterable(
            combinations(sendable, size) for size in range(1, len(sendable) + 1)
        ):
            if len({self.identities[number] for number in members}) == len(members):
                after, batch = _with_batch(state, members, "sending")
                yield f"seal {members}", _with_sender(after, Sender(batch))

    def _lease(self, state: State) -> Iterator[tuple[str, State]]:
        for number, batch in enumerate(state.batches):
            if batch.state in SENDABLE:
                after = _with_batch_state(state, number, "sending")
                yield f"lease {number}", _with_sender(after, Sender(number))

    def _send(self, state: State, sender: Sender) -> Iterator[tuple[str, State]]:
        """Do what one sender can do next: POST, be killed, lose patience, or settle the answer."""
        gone = _without_sender(state, sender)
        has_room = len(state.late | {sender.batch}) <= self.max_late
        if sender.step == "leased":
            yield f"post {sender.batch}", _with_sender(gone, sender._replace(step="waiting"))
            yield f"kill {sender.batch}", gone
        elif sender.step == "waiting":
            if has_room:
                late = gone._replace(late=gone.late | {sender.batch})
                yield f"kill {sender.batch}", late
                yield f"time_out {sender.batch}", _with_sender(late, sender._replace(step="unclear"))
        else:
            yield f"kill {sender.batch}", gone
            yield f"settle {sender.batch} {sender.step}", self._settle(gone, sender)

    def _settle(self, state: State, sender: Sender) -> State:
        """Write an answer. A sender that has lost its lease changes nothing."""
        number, batch = sender.batch, state.batches[sender.batch]
        if not sender.has_lease:
            return state
        match sender.step:
            case "accepted":
                return _with_batch_state(state, number, "accepted", in_doubt=False)
            case "accepted in part":
                state = self._reject_refused(state, number)
                return _with_batch_state(state, number, "accepted", in_doubt=False)
            case "unclear":
                return _with_batch_state(state, number, "in_doubt", in_doubt=True)
            case "not taken":
                is_in_doubt = batch.in_doubt and "in doubt until an answer is clear" not in self.without
                return _with_batch_state(state, number, "in_doubt" if is_in_doubt else "sealed")
        return self._refuse(state, number)

    def _refuse(self, state: State, number: int) -> State:
        """Reject the records that Evermuse names, and seal the others in a new batch."""
        may_be_stored = state.batches[number].may_be_stored
        state = self._reject_refused(state, number)
        others = state.batches[number].members
        state = _finish(state, number, "split" if others else "refused")
        return self._seal_again(state, others, resends=0, may_be_stored=may_be_stored)

    def _reject_refused(self, state: State, number: int) -> State:
        """Reject the members that Evermuse refuses. The others stay in the batch."""
        batch = state.batches[number]
        for member in self.refused.intersection(batch.members):
            state = _with_record(state, member, "rejected", may_be_stored=batch.may_be_stored)
        left = tuple(member for member in batch.members if member not in self.refused)
        return _with_changed_batch(state, number, batch._replace(members=left))

    def _maintain(self, state: State, number: int, batch: Batch) -> Iterator[tuple[str, State]]:
        if batch.state == "sending":  # the lease has expired; its sender may be paused or dead
            senders = tuple(
                sender._replace(has_lease=False) if sender.batch == number else sender
                for sender in state.senders
            )
            if "an expired lease leaves the batch in doubt" in self.without:
                after = _with_batch_state(state, number, "in_doubt" if batch.in_doubt else "sealed")
            else:
                after = _with_batch_state(state, number, "in_doubt", in_doubt=True)
            yield f"mark_in_doubt {number}", after._replace(senders=_sorted(senders))
        if batch.state == "accepted":
            yield f"complete {number}", self._complete(state, number)
            yield f"fail_accepted {number}", self._fail(state, number)
        has_failed = batch.may_be_stored and "records of a failed batch stay in a batch" not in self.without
        if batch.state == "sealed" and not has_failed:
            yield f"withdraw {number}", self._withdraw(state, number)

    def _complete(self, state: State, number: int) -> State:
        for member in state.batches[number].members:
            state = _with_record(state, member, "delivered")
        return _finish(state, number, "complete")

    def _fail(self, state: State, number: int) -> State:
        """Seal the records again under a new key, or reject them after the last resend."""
        batch = state.batches[number]
        state = _finish(state, number, "failed")
        if batch.resends < self.max_resends:
            return self._seal_again(state, batch.members, resends=batch.resends + 1, may_be_stored=True)
        for member in batch.members:
            state = _with_record(state, member, "rejected", may_be_stored=True)
        return state

    def _withdraw(self, state: State, number: int) -> State:
        for member in state.batches[number].members:
            state = _with_record(state, member, "pending")
        return _finish(state, number, "withdrawn")

    def _seal_again(
        self, state: State, members: tuple[int, ...], *, resends: int, may_be_stored: bool
    ) -> State:
        """Supersede the records with a newer version, and seal the others in a new batch."""
        left = []
        for member in members:
            if self._is_overtaken(state, member):
                state = _with_record(state, member, "superseded")
            else:
                left.append(member)
        if not left:
            return state
        return _with_batch(state, tuple(left), "sealed", resends=resends, may_be_stored=may_be_stored)[0]

    # --- the network and Evermuse -----------------------------------------------------------------------

    def _network(self, state: State) -> Iterator[tuple[str, State]]:
        for sender in state.senders:
            if sender.step == "waiting":
                gone = _without_sender(state, sender)
                for answer, after in self._process(gone, sender.batch):
                    yield f"answer {sender.batch} {answer}", _with_sender(after, sender._replace(step=answer))
        for number in sorted(state.late):
            on_the_way = state._replace(late=state.late - {number})
            yield f"lose {number}", on_the_way
            for _, after in self._process(on_the_way, number):
                yield f"arrive_late {number}", after

    def _process(self, state: State, number: int) -> Iterator[tuple[str, State]]:
        """Yield how Evermuse may answer the request of a batch, and what it has stored then."""
        yield "not taken", state
        yield "unclear", state
        members = state.batches[number].members
        good = tuple(member for member in members if member not in self.refused)
        accepted = "accepted" if good == members else "accepted in part"
        if number in state.processed and "a known key processes nothing" not in self.without:
            yield accepted, state
            return
        if good != members:
            yield "refused", state
        if good:
            after = self._store(state, number, good)
            yield accepted, after
            yield "unclear", after

    def _store(self, state: State, number: int, members: tuple[int, ...]) -> State:
        stored, overwritten = dict(state.stored), state.overwritten
        for member in members:
            identity = self.identities[member]
            overwritten = overwritten or stored.get(identity, -1) > member
            stored[identity] = member
        return state._replace(
            stored=tuple(sorted(stored.items())),
            processed=state.processed | {number},
            overwritten=overwritten,
        )

    # --- operators --------------------------------------------------------------------------------------

    def _operators(self, state: State) -> Iterator[tuple[str, State]]:
        for number, record in enumerate(state.records):
            if record.state == "rejected":
                if not self._is_overtaken(state, number):
                    yield f"reopen {number}", _with_record(state, number, "pending")
                if any(state.records[newer].state == "delivered" for newer in self._newer(number)):
                    yield f"correct {number}", _with_record(state, number, "superseded")
            if record.state in ("pending", "rejected"):
                yield f"discard {number}", _with_record(state, number, "discarded")

    # --- versions ---------------------------------------------------------------------------------------

    def _newer(self, number: int) -> list[int]:
        identity = self.identities[number]
        return [
            other for other in range(number + 1, len(self.identities)) if self.identities[other] == identity
        ]

    def _is_overtaken(self, state: State, number: int) -> bool:
        """Return whether Evermuse has, may have or will get a newer version."""
        if "an older version is superseded by a newer one" in self.without:
            return False
        newer = [state.records[other] for other in self._newer(number)]
        return any(
            record.may_be_stored or record.state in ("pending", "in_flight", "delivered", "superseded")
            for record in newer
        )

    def _is_sendable(self, state: State, number: int) -> bool:
        if state.records[number].state != "pending" or self._is_overtaken(state, number):
            return False
        if "an older version in an open batch blocks a newer one" in self.without:
            return True
        older = [state.records[n] for n in range(number) if self.identities[n] == self.identities[number]]
        return all(record.state != "in_flight" for record in older)

    def _reached(self, state: State, number: int) -> bool:
        """Return whether Evermuse stored the record or a newer version."""
        return dict(state.stored).get(self.identities[number], -1) >= number


# --- changes of a state -------------------------------------------------------------------------------------


def _with_record(
    state: State, number: int, record_state: str, *, batch: int | None = None, may_be_stored: bool = False
) -> State:
    """Change one record. That Evermuse may have stored it is never forgotten."""
    before = state.records[number]
    record = Record(record_state, batch, before.may_be_stored or may_be_stored)
    return state._replace(records=(*state.records[:number], record, *state.records[number + 1 :]))


def _with_batch(
    state: State, members: tuple[int, ...], batch_state: str, **columns: Any
) -> tuple[State, int]:
    number = len(state.batches)
    state = state._replace(batches=(*state.batches, Batch(members, batch_state, **columns)))
    for member in members:
        state = _with_record(state, member, "in_flight", batch=number)
    return state, number


def _with_batch_state(state: State, number: int, batch_state: str, *, in_doubt: bool | None = None) -> State:
    batch = state.batches[number]
    batch = batch._replace(state=batch_state, in_doubt=batch.in_doubt if in_doubt is None else in_doubt)
    return _with_changed_batch(state, number, batch)


def _with_changed_batch(state: State, number: int, batch: Batch) -> State:
    return state._replace(batches=(*state.batches[:number], batch, *state.batches[number + 1 :]))


def _finish(state: State, number: int, batch_state: str) -> State:
    return _with_batch_state(state, number, batch_state, in_doubt=False)


def _with_sender(state: State, sender: Sender) -> State:
    return state._replace(senders=_sorted((*state.senders, sender)))


def _without_sender(state: State, sender: Sender) -> State:
    senders = list(state.senders)
    senders.remove(sender)
    return state._replace(senders=tuple(senders))


def _sorted(senders: tuple[Sender, ...]) -> tuple[Sender, ...]:
    return tuple(sorted(senders))


def _normalise(state: State) -> State:
    """Forget the batches that cannot matter any more, so that equal situations are equal states.

    A finished batch matters as long as a sender has it or a request of it is on the way.
    """
    used = {sender.batch for sender in state.senders} | state.late
    kept = [n for n, batch in enumerate(state.batches) if batch.state in OPEN or n in used]
    kept.sort(key=lambda n: state.batches[n].members)
    numbers = {old: new for new, old in enumerate(kept)}
    return state._replace(
        records=tuple(
            record if record.batch is None else record._replace(batch=numbers[record.batch])
            for record in state.records
        ),
        batches=tuple(
            batch
            if batch.state in OPEN
            else batch._replace(state="finished", resends=0, in_doubt=False, may_be_stored=False)
            for batch in (state.batches[n] for n in kept)
        ),
        senders=_sorted(tuple(s._replace(batch=numbers[s.batch]) for s in state.senders)),
        late=frozenset(numbers[n] for n in state.late),
        processed=frozenset(numbers[n] for n in state.processed if n in numbers),
    )
