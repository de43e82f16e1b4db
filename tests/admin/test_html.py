"""The HTML helpers; no database."""

from __future__ import annotations

from datetime import timedelta

import pytest

from evermuse_outbox.admin import html


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0.0 s"),
        (0.42, "0.4 s"),
        (42, "42 s"),
        (200, "3 min 20 s"),
        (7_300, "2 h 1 min"),
        (1e5, "1 d 3 h"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert html.duration(timedelta(seconds=seconds)).replace(html.NBSP, " ") == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (123_456, "123 kB"), (4_999_999, "5.0 MB")],
)
def test_byte_size(count: int, shown: str) -> None:
    assert html.byte_size(count) == shown.replace(" ", html.NBSP)
