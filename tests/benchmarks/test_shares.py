"""The simulation of shares: what the documentation says about them, with smaller numbers."""

from __future__ import annotations

from benchmarks import shares
from benchmarks.shares import Scenario, compare, fair, oldest_first, simulate


def test_a_small_customer_does_not_wait_behind_a_large_one_and_no_request_is_added():
    scenario = Scenario("", {"noisy": 100_000, "small": 10})
    before, after = compare("noisy", scenario).values()
    assert before.requests == after.requests == 101
    assert before.longest["small"] == 101
    assert after.longest["small"] == 1


def test_with_more_customers_than_one_look_each_is_served_in_turn():
    names = [f"customer-{number}" for number in range(999)]
    scenario = Scenario("", dict.fromkeys(names, 200) | {"small": 10})
    before, after = compare("many", scenario).values()
    assert before.requests == after.requests == 200
    assert after.longest["small"] <= 20


def test_weights_hold_within_a_percent():
    scenario = shares.scenarios()["weights"]
    sent = simulate(scenario, fair(scenario.weights)).sent
    for customer, weight in {"a": 3, "b": 1, "c": 0.5}.items():
        assert abs(sent[customer] / sum(sent.values()) - weight / 4.5) < 0.01


def test_after_an_outage_fresh_records_do_not_wait_and_the_backlog_still_ends():
    scenario = Scenario("", {"all": 60_000}, {"all": 600})
    before, after = simulate(scenario, oldest_first), simulate(scenario, fair({}, 0.2))
    assert before.requests == after.requests == 150
    assert before.fresh > 50
    assert after.fresh == 1


def test_the_backlog_has_its_share_when_fresh_records_alone_would_fill_all_requests():
    scenario = Scenario("", {"all": 10_000}, {"all": 2_000}, requests=60)
    result = simulate(scenario, fair({}, 0.2))
    assert result.sent["all"] == 60_000
    assert result.longest["all"] > 50  # the backlog was sent, and then the oldest since
