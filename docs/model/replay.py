"""Compare what the real pipeline did with the model: is there a sequence of the model's actions that looks the same?

An *observation* is what the tables show: the state of each record, and the members and state of each open batch. What
cannot be seen, such as requests on the way, may be anything that the model allows. So the replay keeps several states
of the model. An action that shows nothing is done when a later observation needs it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .protocol import FINAL, OPEN, Protocol, State

MAX_ACTIONS = 5
"""Actions of the model between two observations, at most."""


class Observation(NamedTuple):
    """What the tables show: the states of the committed records in their order, and the open batches."""

    records: tuple[str, ...]
    batches: tuple[tuple[tuple[int, ...], str], ...]
    """Members and state of each, sorted."""

    @classmethod
    def of(cls, records: Iterable[str], batches: Iterable[tuple[tuple[int, ...], str]]) -> Observation:
        """Return the observation in its normal form."""
        return cls(tuple(records), tuple(sorted(batches)))


class NotInModel(AssertionError):
    """The pipeline did what no sequence of the model's actions does."""


class Replay:
    """Follows observations with the model, from its initial state on."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.possible = {protocol.initial()}
        self.observations = [observe(protocol.initial())]

    def follow(self, observation: Observation) -> None:
        """Keep the states of the model that fit the observation, after as few actions as possible.

        Raises:
            NotInModel: There is none.
        """
        seen, newest = set(self.possible), self.possible
        fitting = _fitting(newest, observation)
        for _ in range(MAX_ACTIONS):
            if fitting:
                break
            steps = (after for state in newest for _, after in self.protocol.steps(state))
            newest = {after for after in steps if _can_lead_to(after, observation)} - seen
            seen |= newest
            fitting = _fitting(newest, observation)
        if not fitting:
            raise NotInModel(f"no actions of the model lead from {self.observations[-1]} to {observation}")
        self.possible = fitting
        if observation != self.observations[-1]:
            self.observations.append(observation)


def observe(state: State) -> Observation:
    """Return what the tables would show."""
    return Observation.of(
        (record.state for record in state.records if record.state != "uncommitted"),
        ((batch.members, batch.state) for batch in state.batches if batch.state in OPEN),
    )


def _fitting(states: Iterable[State], observation: Observation) -> set[State]:
    return {state for state in states if observe(state) == observation}


def _can_lead_to(state: State, observation: Observation) -> bool:
    """Return whether no record is further than it was seen. It only spares the replay useless states."""
    for number, record in enumerate(state.records):
        if number >= len(observation.records):
            if record.state != "uncommitted":
                return False
        elif record.state in FINAL and record.state != observation.records[number]:
            return False
    return True
