"""The model keeps the guarantees, and breaks them without any of its rules."""

from __future__ import annotations

import pytest

from docs.model.__main__ import SMALL
from docs.model.checker import check
from docs.model.protocol import Protocol

pytestmark = pytest.mark.once


@pytest.mark.parametrize("title", ["two versions, one sender", "two records in a batch, one is refused"])
def test_every_property_holds_in_every_state(title):
    result = check(SMALL[title])
    assert (result.violations, result.trace) == ([], [])
    assert result.states > 1_000


@pytest.mark.parametrize("rule", sorted(Protocol.RULES))
def test_a_property_breaks_without_the_rule(rule):
    result = check(Protocol((0, 0), senders=1, without=frozenset({rule})))
    assert result.violations == ["an older version has overwritten a newer one"]
    assert result.trace[-1].split()[0] in ("answer", "arrive_late")


def test_a_record_that_can_never_end_is_found():
    class NoPolls(Protocol):
        def _complete(self, state, number):
            return state

        def _fail(self, state, number):
            return state

    result = check(NoPolls((0,), senders=1))
    assert result.violations == ["no final state can be reached any more"]
    assert "seal (0,)" in result.trace


def test_an_unknown_rule_is_named():
    with pytest.raises(ValueError, match="unknown rules: \\['nothing'\\]; the rules are"):
        Protocol((0,), without=frozenset({"nothing"}))
