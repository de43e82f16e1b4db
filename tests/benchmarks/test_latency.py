"""The pure parts of ``python -m benchmarks latency``."""

from random import Random

from benchmarks import latency


def test_waits_are_told_in_milliseconds_with_the_share_within_a_second():
    assert latency.spread([0.1, 0.2, 1.0, 3.0]) == [600.0, 3_000.0, 3_000.0, "75 %"]


def test_a_flow_counts_reads_among_the_requests():
    stream = {"lasted": 2.0, "sends": [[10.0, 5], [10.5, 15]], "reads": [10.9, 11.2]}

    assert latency.flow(stream) == [10.0, 1.0, 10.0, 15, 3]


def test_moments_go_forward():
    rng = Random(1)

    moments = list(latency._moments(rng, 50, lambda: rng.expovariate(5)))

    assert len(moments) == 50
    assert moments == sorted(moments)


def test_a_number_is_given_once():
    numbers = latency._Numbers(3)

    assert [numbers.take() for _ in range(3)] == [3, 4, 5]
