"""Tests of the calculations in ``benchmarks/latency.py``."""

from random import Random

from benchmarks import latency


def test_spread_is_in_milliseconds_with_the_share_within_a_second():
    assert latency.spread([0.1, 0.2, 1.0, 3.0]) == [600.0, 3_000.0, 3_000.0, "75 %"]


def test_reads_count_as_requests_in_the_sliding_second():
    stream = {"lasted": 2.0, "sends": [[10.0, 5], [10.5, 15]], "reads": [10.9, 11.2]}

    assert latency.stream_figures(stream) == [10.0, 1.0, 10.0, 15, 3]


def test_random_times_increase():
    rng = Random(1)

    times = list(latency._random_times(50, lambda: rng.expovariate(5)))

    assert len(times) == 50
    assert times == sorted(times)


def test_each_number_is_used_once():
    numbers = latency._Numbers(3)

    assert [numbers.take() for _ in range(3)] == [3, 4, 5]
