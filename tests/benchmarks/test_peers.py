"""The pure parts of ``python -m benchmarks peers``: what it reads of the wire, and what it makes of figures."""

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
def test_statements_are_counted_in_whatever_pieces_they_come(size):
    counts = Counter()
    tally = Tally(counts)

    for start in range(0, len(ANSWERS), size):
        tally.feed(ANSWERS[start : start + size])

    assert counts == {"BEGIN": 1, "INSERT": 2, "COMMIT": 1}
    assert split(counts) == (2, 2)


def test_what_passes_through_is_counted_and_unchanged():
    """Beginning with the wish for encryption that every driver has."""
    got = asyncio.run(_talk_through())

    assert got == (b"N", ANSWERS, Counter(BEGIN=1, INSERT=2, COMMIT=1))


async def _talk_through():
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


def test_the_pace_is_that_behind_the_first_request():
    assert peers.delivered_a_second([[1.0, 500], [3.0, 200], [2.0, 300]]) == 250


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


def test_a_line_tells_medians_of_the_rounds_and_all_that_came_twice():
    result = peers._Result()
    result.rounds = [ROUND | {"delivered": pace} for pace in (900.0, 700.0, 100.0)]
    result.sql = {
        "records": 10,
        "enqueue": Counter(INSERT=10, BEGIN=1),
        "delivery": Counter(UPDATE=5, COMMIT=2),
    }

    line = dict(zip(peers.HEADERS, peers.row(CONTENDERS[0], result), strict=True))

    assert line["delivered a second"] == 700
    assert line["enqueue, p50 in µs"] == "200 (2.0 ×)"
    assert line["records a request"] == 100
    assert line["came twice"] == 3
    assert line["SQL a record, enqueue + delivery"] == "1 + 0.5"
    assert line["BEGIN, COMMIT … a record"] == "0.3"


def test_a_contender_that_failed_has_a_line_without_figures():
    line = peers.row(CONTENDERS[0], peers._Result("no such module"))

    assert len(line) == len(peers.HEADERS)
    assert line[1] == "failed"


def test_every_contender_takes_its_turn_at_the_front():
    firsts = [peers._rotated([*CONTENDERS], turn)[0] for turn in range(len(CONTENDERS))]

    assert firsts == [*CONTENDERS]


def test_every_package_of_a_peer_has_an_exact_version():
    lines = environment.REQUIREMENTS.read_text().split()
    named = {line.partition("==")[0].lower() for line in lines}

    assert all("==" in line for line in lines)
    assert {each.requires.partition("[")[0] for each in CONTENDERS if each.requires} <= named


def test_the_api_knows_which_records_came_twice():
    log = sink.RequestLog(delay=0, complete_after=0, identities={})

    log.note_identities(1.0, b'{"_vendor_ids":{"desk":"message-1"}}\n{"_vendor_ids":{"desk": "message-2"}}\n')
    log.note_identities(2.0, b'{"_vendor_ids":{"desk":"message-2"}}\n')

    assert (log.figures()["distinct"], log.figures()["again"]) == (2, 1)
    assert log.identities == {"message-1": 1.0, "message-2": 1.0}
