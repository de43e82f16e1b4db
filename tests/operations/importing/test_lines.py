"""Lines of a file: which are records, which are bad, and where a chunk ends."""

from __future__ import annotations

import hashlib
import io
import json

import pytest

from evermuse_outbox.operations.importing import lines
from evermuse_outbox.operations.importing.lines import LineReader, StreamDiffers
from tests.records import record


def line(number=1, **changes):
    return json.dumps(record(number, **changes)).encode()


def read(content):
    return list(LineReader(io.BytesIO(content), "reference", "default").chunks())


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (b"{", "No JSON: "),
        (b"[1]", "The line is not a JSON object."),
        (b"null", "The line is not a JSON object."),
        (b'"\xff"', "No UTF-8: "),
        (b"{}", "_type"),
        (b"[" * 100_000, "The JSON is nested too deeply."),
        (line(_type=7), "_type"),
        (line(data={"n": float("nan")}), "data.n"),
        (b'{"data": 1' + b"0" * 5_000 + b"}", "integer string conversion"),
    ],
)
def test_a_bad_line_has_its_number_and_its_error(bad, error):
    (chunk,) = read(b"\n".join([line(1), b"", bad, line(2)]))
    assert [envelope.identity.version for envelope in chunk.envelopes] == [7, 7]
    ((number, message, text),) = chunk.bad
    assert (number, text) == (3, bad.decode("utf-8", "backslashreplace"))
    assert error in message


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_line_ends_and_a_byte_order_mark_do_not_matter(end):
    content = b"\xef\xbb\xbf" + line(1) + b"\r\n\n" + line(2) + end
    (chunk,) = read(content)
    assert (len(chunk.envelopes), chunk.bad, chunk.position) == (2, [], len(content))
    assert chunk.sha256 == hashlib.sha256(content).hexdigest()


def test_an_empty_file_has_no_chunk():
    assert read(b"") == []


def test_a_line_that_is_too_long_is_bad_and_the_next_one_is_read(monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE", 1_000)
    monkeypatch.setattr(lines, "READ_SIZE", 100)
    long = line(1, data={"text": "x" * 2_000})
    (chunk,) = read(long + b"\n" + line(2) + b"\n" + long)
    assert len(chunk.envelopes) == 1
    assert [(bad.line, bad.error) for bad in chunk.bad] == [
        (number, "The line is longer than 1,000 bytes.") for number in (1, 3)
    ]
    assert all(len(bad.text) == 1_001 for bad in chunk.bad)


def test_chunks_end_at_a_number_of_lines_or_bytes(monkeypatch):
    monkeypatch.setattr(lines, "CHUNK_LINES", 3)
    content = b"\n".join(line(n) for n in range(7))
    assert [len(chunk.envelopes) for chunk in read(content)] == [3, 3, 1]
    monkeypatch.setattr(lines, "CHUNK_BYTES", 2 * len(line(1)))
    assert [len(chunk.envelopes) for chunk in read(content)] == [2, 2, 2, 1]


def test_what_was_read_before_is_skipped_only_if_it_is_the_same(monkeypatch):
    monkeypatch.setattr(lines, "CHUNK_LINES", 2)
    content = b"\n".join(line(n) for n in range(5))
    first = read(content)[0]

    def skipped(stream):
        reader = LineReader(io.BytesIO(stream), "reference", "default")
        reader.skip(first.position, first.sha256, first.lines)
        return [(chunk.lines, len(chunk.envelopes)) for chunk in reader.chunks()]

    assert skipped(content) == [(4, 2), (5, 1)]
    for other in (b" " + content, content[: first.position - 1], b""):
        with pytest.raises(StreamDiffers):
            skipped(other)
