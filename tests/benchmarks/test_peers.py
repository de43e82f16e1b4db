"""Tests of the benchmark ``peers``: counting statements, and calculating its figures."""

import asyncio
from collections import Counter

import pytest

from benchmarks import peers
from benchmarks.common import sink
from benchmarks.contenders import CONTENDERS, environment
from benchmarks.contenders.statement_counter import Tally, counting, split


def message(kind, body):
    return kind + (len(body) + 4).to_bytes(4, "big") + body


ANSWERS = (
    message(b"C", b"BEGIN\0")
    + message(b"Z", b"T")
    + message(b"D", b"C" * 40)
    + message(b"C", b"INSERT 0 1\0")
    + message(b"C", b"INSERT 0 1\0")
    + message(b"C", b"COMMIT\0")
)


@pytest.mark.parametrize("size", [1, 3, 7, 1_000])
def test_statements_are_counted_in_pieces_of_any_size(size):
    counts = Counter()
    tally = Tally(counts)

    for start in range(0, len(ANSWERS), size):
        tally.feed(ANSWERS[start : start + size])

    assert counts == {"BEGIN": 1, "INSERT": 2, "COMMIT": 1}
    assert split(counts) == (2, 2)


def test_the_proxy_counts_statements_and_does_not_change_messages():
    """The first message is a request for encryption, as every driver sends it."""
    received = asyncio.run(_send_through_proxy())

    assert received == (b"N", ANSWERS, Counter(BEGIN=1, INSERT=2, COMMIT=1))


async def _send_through_proxy():
    async def database(reader, writer):
        assert await reader.readexactly(8) == b"\0\0\0\x08\0\x03\0\0"
        writer.write(ANSWERS)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(database, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with counting(f"postgres://me:pass@127.0.0.1:{port}/it") as (url, counts):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[-1].split("/")[0]))
        writer.write((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))
        refused = await reader.readexactly(1)
        writer.write(b"\0\0\0\x08\0\x03\0\0")
        answers = await reader.read(-1)
        writer.close()
        server.close()
        return refused, answers, Counter(counts)


def test_the_first_request_does_not_count_for_the_delivery_rate():
    assert peers.delivered_per_second([[1.0, 500], [3.0, 200], [2.0, 300]]) == 250


ROUND = {
    "call": 200e-6,
    "call_ratio": 2.0,
    "transaction": 3e-3,
    "transaction_ratio": 1.5,
    "delivered": 700.0,
    "requests": 10,
    "records": 1_000,
    "twice": 1,
}


def test_a_line_has_the_medians_of_the_rounds_and_the_sum_of_duplicates():
    result = peers._Result()
    result.rounds = [ROUND | {"delivered": rate} for rate in (900.0, 700.0, 100.0)]
    result.sql = {
        "records": 10,
        "enqueue": Counter(INSERT=10, BEGIN=1),
        "delivery": Counter(UPDATE=5, COMMIT=2),
    }

    line = dict(zip(peers.HEADERS, peers.row(CONTENDERS[0], result), strict=True))

    assert line["delivered per second"] == 700
    assert line["enqueue, p50 in µs"] == "200 (2.0 ×)"
    assert line["records per request"] == 100
    assert line["arrived twice"] == 3
    assert line["SQL per record, enqueue + delivery"] == "1 + 0.5"
    assert line["BEGIN, COMMIT … per record"] == "0.3"
    assert line["LISTEN and NOTIFY"] == "no"


def test_a_contender_that_failed_has_a_line_without_figures():
    line = peers.row(CONTENDERS[0], peers._Result("no such module"))

    assert len(line) == len(peers.HEADERS)
    assert line[1] == "failed"


def test_each_round_begins_with_another_contender():
    firsts = [peers._rotated([*CONTENDERS], number)[0] for number in range(len(CONTENDERS))]

    assert firsts == [*CONTENDERS]


def test_requirements_have_exact_versions():
    lines = environment.REQUIREMENTS.read_text().split()
    packages = {line.partition("==")[0].lower() for line in lines}

    assert all("==" in line for line in lines)
    assert {
        contender.requires.partition("[")[0] for contender in CONTENDERS if contender.requires
    } <= packages


def test_the_sink_counts_records_that_arrive_twice():
    log = sink.RequestLog(delay=0, complete_after=0, identities={})

    log.note_identities(1.0, b'{"_vendor_ids":{"desk":"message-1"}}\n{"_vendor_ids":{"desk": "message-2"}}\n')
    log.note_identities(2.0, b'{"_vendor_ids":{"desk":"message-2"}}\n')

    assert (log.figures()["distinct"], log.figures()["again"]) == (2, 1)
    assert log.identities == {"message-1": 1.0, "message-2": 1.0}
