"""What the samples of latency prove about the next one."""

from __future__ import annotations

from random import Random

import pytest

from evermuse_outbox.ratelimit.latency import (
    DROP,
    FACTORS,
    FEWEST,
    LOWEST,
    MAX_AGE,
    RESOLUTION,
    SAMPLES,
    LatencySamples,
)


def samples_of(latencies, every=0.1):
    samples = LatencySamples()
    for number, latency in enumerate(latencies):
        samples = samples.add(1e9 + number * every, latency)
    return samples


def test_too_few_samples_prove_nothing():
    assert LatencySamples().floor() == 0.0
    assert samples_of([0.3] * (FEWEST - 1)).floor() == 0.0


def test_equal_latencies_are_known_up_to_the_resolution_of_the_clock():
    assert samples_of([0.3] * FEWEST).floor() == pytest.approx(0.3 - FACTORS[FEWEST] * RESOLUTION)
    assert samples_of([0.3] * LOWEST).floor() == pytest.approx(0.3 - FACTORS[LOWEST] * RESOLUTION)


def test_a_wide_spread_proves_nothing():
    rng = Random(1)
    assert samples_of([rng.uniform(0, 0.2) for _ in range(10)]).floor() == 0.0


def test_slow_answers_do_not_count():
    assert samples_of([0.3] * LOWEST + [2.0] * 5).floor() == samples_of([0.3] * LOWEST).floor()


def test_a_latency_far_below_the_floor_discards_the_others():
    samples = samples_of([0.3] * SAMPLES)
    assert len(samples.add(1e9 + 6, 0.3 - DROP / 2).previous) == LOWEST
    assert samples.add(1e9 + 6, 0.2)[1:] == (1, (0.2,), ())


def test_two_buckets_are_remembered():
    fast, slow = [0.1] * SAMPLES, [0.3] * SAMPLES
    assert samples_of(fast + slow).floor() < 0.1
    assert samples_of(fast + slow + [0.3]).floor() > 0.25


def test_an_old_bucket_is_forgotten():
    samples = samples_of([0.1] * LOWEST)
    assert len(samples.add(1e9 + MAX_AGE, 0.3).previous) == LOWEST
    assert samples.add(1e9 + 2 * MAX_AGE, 0.3).previous == ()


def test_a_clock_that_is_set_back_forgets_everything():
    assert samples_of([0.1] * LOWEST).add(1e9 - 1, 0.3).current == (0.3,)


@pytest.mark.parametrize("network", ["uniform", "squared", "exponential"])
def test_hardly_any_further_latency_is_below_the_floor(network):
    draw = {
        "uniform": lambda rng: 0.3 + rng.uniform(0, 0.2),
        "squared": lambda rng: 0.3 + rng.uniform(0, 0.5) ** 2,
        "exponential": lambda rng: 0.3 + rng.expovariate(20),
    }[network]
    below = 0
    for seed in range(300):
        rng, samples = Random(seed), LatencySamples()
        for number in range(60):
            latency = draw(rng)
            below += latency < samples.floor()
            samples = samples.add(1e9 + number / 10, latency)
    assert below == 0
