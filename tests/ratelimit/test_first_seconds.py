"""The first seconds of a new key: the simulation of ``benchmarks/ratelimit.py`` with a few seeds of each network."""

from __future__ import annotations

from random import Random

import pytest

from benchmarks import ratelimit
from benchmarks.common.sink import max_per_sliding_second

SEEDS = 5
ANSWERS = [0.005, 0.3, 1.0]


def first_seconds(network, answer, seed, *, senders=16, seconds=30):
    return ratelimit.Simulation(ratelimit.NETWORKS[network], answer, senders, Random(seed)).run(seconds)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(
    "network", ["uniform", "both-ways", "triangular", "exponential", "two-paths", "by-connection"]
)
def test_no_sliding_second_of_a_new_key_has_more_than_ten_requests(network, answer):
    for seed in range(SEEDS):
        assert max_per_sliding_second(first_seconds(network, answer, seed)) <= 10


@pytest.mark.parametrize("senders", [14, 16, 64, 128])
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_new_key_uses_its_limit_from_the_first_second_on(answer, senders):
    arrivals = first_seconds("steady", answer, seed=1, senders=senders)
    assert max_per_sliding_second(arrivals) <= 10
    assert ratelimit.share_of_limit(arrivals) >= 0.95


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_varying_network_costs_no_more_than_it_must(answer):
    # Each request occupies its permit for the window, for its lateness of 0.1 s on average, and for what is uncertain.
    arrivals = first_seconds("uniform", answer, seed=1)
    assert 0.8 <= ratelimit.share_of_limit(arrivals) <= 1.02 / 1.1  # the first ten need no free permit


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_path_that_becomes_faster_is_noticed_within_two_seconds(answer):
    arrivals = first_seconds("faster-path", answer, seed=1)
    changed_at = ratelimit.START + 15
    assert max_per_sliding_second([at for at in arrivals if at < changed_at]) <= 10
    assert max_per_sliding_second([at for at in arrivals if at > changed_at + 2]) <= 10
    assert max_per_sliding_second(arrivals) <= 12
