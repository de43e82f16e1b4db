"""What an error tracker gets: the repr of the local variables of every frame of an exception and of its causes."""

from __future__ import annotations

import socket
import traceback

import pytest
from django.db import connections

from evermuse_outbox.conf import Secret
from evermuse_outbox.delivery.context import open_redis, open_throttle
from evermuse_outbox.delivery.loop.relay import send_next
from evermuse_outbox.evermuse import FORMATS, Unanswered, Unreachable
from evermuse_outbox.evermuse.api import Answer, Client
from evermuse_outbox.foreign_text import HiddenBytes, HiddenText
from evermuse_outbox.ratelimit import ThrottleUnavailable
from tests.records import enqueue

KEY, PASSWORD, CONTENT = "em_sk_marker_4711", "hunter2-marker", "content-marker-4711"
OURS = "/evermuse_outbox/"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def frames_of(error):
    """Yield the file and the shown local variables of each frame, as an error tracker collects them."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        for frame, _ in traceback.walk_tb(error.__traceback__):
            for name, value in frame.f_locals.items():
                yield frame.f_code.co_filename, name, repr(value)
        error = error.__cause__ or error.__context__


def check(error, *, everywhere):
    """Only the standard library's ``http.client`` shows the key, in the bytes of the headers."""
    shown = list(frames_of(error))
    assert any(OURS in path for path, *_ in shown)
    for path, name, text in shown:
        if path == __file__:
            continue
        shown_markers = [marker for marker in everywhere if marker in text]
        assert not shown_markers or (path.endswith("/http/client.py") and name == "msg"), (path, name)


def test_a_request_that_fails_shows_neither_the_key_nor_the_body():
    client = Client(f"http://127.0.0.1:{free_port()}", Secret(KEY).reveal, 2)
    body = FORMATS["ndjson"].join([CONTENT])
    with pytest.raises(Unreachable) as caught:
        client.ingest(body, content_type="application/x-ndjson", key="k")
    check(caught.value, everywhere=[CONTENT, KEY])


def test_a_request_without_an_answer_shows_neither_the_key_nor_the_body():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = Client(f"http://127.0.0.1:{server.getsockname()[1]}", Secret(KEY).reveal, 0.3)
        body = FORMATS["ndjson"].join([CONTENT])
        with pytest.raises(Unanswered) as caught:
            client.ingest(body, content_type="application/x-ndjson", key="k")
    check(caught.value, everywhere=[CONTENT, KEY])


def test_a_redis_that_does_not_answer_shows_no_password(outbox_settings):
    from evermuse_outbox.conf import get_settings

    outbox_settings(API_KEY=KEY, REDIS_URL=f"redis://user:{PASSWORD}@127.0.0.1:{free_port()}/0")
    settings = get_settings()
    throttle = open_throttle(settings.workspace("default"), settings)
    with pytest.raises(ThrottleUnavailable) as caught:
        throttle.acquire()
    check(caught.value, everywhere=[PASSWORD, KEY])
    assert PASSWORD not in repr((settings, throttle, vars(throttle), open_redis(settings)))


@pytest.mark.parametrize("table", ["outboxbatch", "outboxattempt"])
def test_a_database_error_of_a_worker_shows_no_line(context, alias, sandbox, table):
    enqueue(alias, 1, data={"text": CONTENT})

    def fail(execute, sql, params, many, context):
        if sql.startswith("INSERT") and table in sql:
            raise ValueError("as an error of the database")
        return execute(sql, params, many, context)

    with connections[alias].execute_wrapper(fail), pytest.raises(ValueError, match="as an error") as caught:
        send_next(context)
    check(caught.value, everywhere=[CONTENT, context.workspace.api_key.reveal()])


def test_hidden_values_are_equal_to_what_they_hide():
    assert HiddenText(CONTENT) == CONTENT
    assert HiddenBytes(b"x") == b"x"
    assert repr([HiddenText(CONTENT), HiddenBytes(b"12")]) == "[<19 characters>, <2 bytes>]"
    assert CONTENT not in repr(Answer(200, CONTENT.encode(), 0.1))
